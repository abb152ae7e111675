# A classroom: every student has the course material as a writable directory, and
# keeps what he or she makes of it. The names come from outside, see lab.vars.hcl:
#
#   overlayd apply classroom.hcl --var-file lab.vars.hcl
#
# At the end of the term set prevent_destroy to false and apply that. Then
# overlayd reset overlay.student gives everybody the pristine material, and
# reset --path /exercise1 'overlay.student["ada"]' only that part, to one of them.

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
    # Nobody resets or removes by mistake what students hand in.
    prevent_destroy = true
  }
}
