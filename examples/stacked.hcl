# An overlay as a layer of others. The team prepares a tree in "prepared", on
# top of a read-only image; its members see it as their base, and what each of
# them changes is stored apart. The kernel allows two levels, not more.
#
# While members have it mounted, the prepared tree should not change: unmount
# the members, prepare, and mount them again.

variable "members" {
  type    = set(string)
  default = ["alan", "barbara"]
}

lowerdir "image" {
  path = "/srv/image"
}

overlay "prepared" {
  lowerdirs  = [lowerdir.image]
  mountpoint = "/srv/prepared"
}

overlay "member" {
  for_each = var.members

  # The order of mounting follows from this reference.
  lowerdirs  = [overlay.prepared.mountpoint]
  mountpoint = "/srv/members/${each.key}"
}
