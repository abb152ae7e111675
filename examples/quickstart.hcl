# Two clients share one base directory; each has a writable view of its own.
#
#   mkdir -p /overlaytest/lowerdir
#   touch "/overlaytest/lowerdir/File 1" "/overlaytest/lowerdir/File 2" "/overlaytest/lowerdir/File 3"
#   overlayd apply quickstart.hcl
#
# What client_1 changes, deletes and creates in /overlaytest/merged/client_1 is
# stored in /overlaytest/client_1/upperdir. client_2 sees nothing of it, and the
# base stays as it is.

variable "clients" {
  description = "names of the clients"
  type        = set(string)
  default     = ["client_1", "client_2"]
}

locals {
  base = "/overlaytest"
}

lowerdir "base" {
  path = "${local.base}/lowerdir"
}

overlay "client" {
  for_each   = var.clients
  lowerdirs  = [lowerdir.base]
  upperdir   = "${local.base}/${each.key}/upperdir"
  workdir    = "${local.base}/${each.key}/workdir"
  mountpoint = "${local.base}/merged/${each.key}"
}
