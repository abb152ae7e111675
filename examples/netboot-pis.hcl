# A rack of network-booted Raspberry Pis: one root tree, one overlay per board,
# exported over NFS by this host. The key is the serial number that the boot
# loader asks for.

variable "boards" {
  description = "serial number of each board, and what is particular to it"
  type = map(object({
    name   = string
    camera = optional(bool, false)
  }))
  default = {
    "10000000a1b2c3d4" = { name = "pi-door", camera = true }
    "10000000a1b2c3d5" = { name = "pi-roof" }
  }
}

lowerdir "os" {
  path = "/srv/pi/os"
}

lowerdir "camera" {
  path = "/srv/pi/camera"
}

overlay "board" {
  for_each   = var.boards
  lowerdirs  = each.value.camera ? [lowerdir.camera.path, lowerdir.os.path] : [lowerdir.os.path]
  upperdir   = "/srv/pi/data/${each.key}/upper"
  workdir    = "/srv/pi/data/${each.key}/work"
  mountpoint = "/srv/pi/root/${each.key}"

  options {
    # An overlay can be exported over NFS only with these two. While they are on,
    # another list of lowerdirs takes another upperdir: plan says so, and for a new
    # version of the root tree it is best to have the version in both paths.
    index      = true
    nfs_export = true
  }

  unit {
    description = "root of ${each.value.name}"
    # Whoever starts the NFS server starts the overlays, too. That does not order
    # them: give nfs-server.service an After=overlayd.target, and export with mp, so
    # that no board finds an empty directory.
    wanted_by = ["overlayd.target", "nfs-server.service"]
  }
}
