# What "overlayd plan" compares this host with, and "overlayd apply" makes so. It is read together with all other *.hcl
# files in this directory. overlayd.hcl(5) describes the language; more specs are in /usr/share/doc/overlayd/examples.
#
# Nothing is declared as long as all of it is a comment. To begin, take the "#" away from what follows and change the
# paths, then:
#
#   overlayd plan
#   overlayd apply
#
# To have the agent keep the host as declared: systemctl enable --now overlayd

#variable "clients" {
#  description = "who gets a writable view"
#  type        = set(string)
#  default     = ["client_1", "client_2"]
#}

#lowerdir "base" {
#  path = "/srv/base"
#}

#overlay "client" {
#  for_each   = var.clients
#  lowerdirs  = [lowerdir.base]
#  mountpoint = "/srv/clients/${each.key}"
#}
