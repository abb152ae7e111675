# A desk is a client: each has a writable view of what all share.

variable "clients" {
  description = "names of the clients"
  type        = set(string)
}

variable "owner" {
  description = "whom the trees belong to"
  type        = string
  default     = "root"
}

lowerdir "base" {
  path = "/srv/lab/base"
}

overlay "client" {
  for_each   = var.clients
  lowerdirs  = [lowerdir.base]
  mountpoint = "/srv/lab/clients/${each.key}"
  owner      = var.owner
}
