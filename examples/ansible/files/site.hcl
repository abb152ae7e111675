# Each client has a writable view of /srv/base. Who they are is in the inventory.

variable "clients" {
  description = "names of the clients"
  type        = set(string)
  default     = []
}

lowerdir "base" {
  path = "/srv/base"
}

overlay "client" {
  for_each   = var.clients
  lowerdirs  = [lowerdir.base]
  mountpoint = "/srv/clients/${each.key}"
}
