# What all clients share. It has to be there before it is mounted.
file { ['/srv/lab', '/srv/lab/base']:
  ensure => directory,
  before => Class['overlayd'],
}

include overlayd
