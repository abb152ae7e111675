# A build host: every slot of the CI runner gets a disposable copy of one build
# root. Between two jobs `overlayd reset --auto-approve 'overlay.slot["3"]'` makes
# a slot pristine, which costs what the job wrote, not what the root holds.
# `overlayd diff 'overlay.slot["3"]'` shows what a job left behind.

variable "slots" {
  description = "how many jobs run at once"
  type        = number
  default     = 8
}

variable "distribution" {
  description = "the build root to use, a directory below /srv/buildroots"
  type        = string
  default     = "debian-13"
}

settings {
  # A fast disk of its own; what a job writes is worth nothing after a reboot.
  state_dir = "/scratch/overlayd"

  agent {
    # Between jobs nobody minds when a tree is mounted anew; one that a job uses is left alone.
    policy = "full"
  }
}

lowerdir "root" {
  path = "/srv/buildroots/${var.distribution}"
}

# On top of it, compilers that are updated more often than the build root.
lowerdir "toolchain" {
  path = "/srv/toolchains/current"
}

overlay "slot" {
  for_each   = toset([for i in range(var.slots) : tostring(i + 1)])
  lowerdirs  = [lowerdir.toolchain, lowerdir.root]
  mountpoint = "/build/slot-${each.key}"

  options {
    noatime = true
    # The build root has set-uid programs that no job needs.
    nosuid = true
    nodev  = true
  }

  unit {
    description = "build slot ${each.key} of ${host.name}"
  }
}
