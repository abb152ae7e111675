# A classroom: every student has the course material as a writable directory.
# Deleting everything is fine: overlayd reset 'overlay.student["ada"]' brings it
# back, and reset --path /exercise1 only that part of it. The names come from
# outside, see lab.vars.hcl:
#
#   overlayd apply classroom.hcl --var-file lab.vars.hcl

variable "students" {
  description = "account of each student, and the courses that he or she attends"
  type = map(object({
    courses = list(string)
    group   = optional(string, "students")
  }))
  default = {
    ada = { courses = ["databases"] }
  }
}

variable "term" {
  description = "directory of the term below /srv/courses"
  type        = string
  default     = "2026-spring"
}

locals {
  material = "/srv/courses/${var.term}"
}

lowerdir "common" {
  path = "${local.material}/common"
}

overlay "student" {
  for_each = var.students

  # The first lowerdir is the topmost: a course may replace what all share.
  lowerdirs = concat(
    [for course in each.value.courses : "${local.material}/${course}"],
    [lowerdir.common.path],
  )
  mountpoint = "/srv/classroom/${each.key}"

  # The student owns the root of the tree, and nobody else looks into it.
  owner = each.key
  group = each.value.group
  mode  = "0700"

  options {
    nosuid = true
    nodev  = true
  }

  lifecycle {
    # What students hand in is not lost by an edit of this file.
    prevent_destroy = true
  }
}
