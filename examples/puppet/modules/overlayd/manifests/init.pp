# @summary Installs overlayd, lays its spec down and applies it.
#
# A spec that does not validate changes nothing on the host: it is checked as a whole, with all files of the catalog in
# their places, before the first of them is replaced. A noop run shows the plan that the new files would give.
#
# @example A spec of a module of yours, and a value of this node
#   class { 'overlayd':
#     specs  => { 'lab.hcl' => { source => 'puppet:///modules/site/lab.hcl' } },
#     values => { 'clients' => ['ada', 'grace'] },
#   }
#
# @param package_ensure
#   What to ask of the package: `installed`, `latest` or a version.
# @param package_source
#   Path of a .deb on the node to install from. Without it the package comes from an apt repository.
# @param specs
#   The spec files in /etc/overlayd by name, each with attributes of a `file` resource, mostly `source` or `content`.
#   `ensure => absent` removes one.
# @param values
#   Values of the spec's variables, any data. They are written to /etc/overlayd/puppet.auto.vars.hcl.
# @param purge
#   Whether to remove what else lies in /etc/overlayd. An overlay that no file declares any more is deleted; what its
#   client wrote is kept.
# @param apply
#   Whether to apply the spec. Without it `overlayd apply` is for you to run.
# @param allow_empty
#   Whether a spec without any overlay may delete all that it had.
# @param agent
#   Whether overlayd.service, the agent, is to run and be enabled, or to be stopped and disabled. Without it the service
#   stays as it is.
class overlayd (
  String[1] $package_ensure = 'installed',
  Optional[Pattern[/\A\//]] $package_source = undef,
  Hash[Pattern[/\A[^\/]+\.hcl\z/], Hash[String[1], Any]] $specs = {},
  Hash[Pattern[/\A[A-Za-z_][A-Za-z0-9_-]*\z/], Data] $values = {},
  Boolean $purge = false,
  Boolean $apply = true,
  Boolean $allow_empty = false,
  Optional[Boolean] $agent = undef,
) {
  package { 'overlayd':
    ensure => $package_ensure,
    source => $package_source,
  }

  overlayd_spec { '/etc/overlayd': }

  file { '/etc/overlayd':
    ensure  => directory,
    owner   => 'root',
    group   => 'root',
    mode    => '0755',
    recurse => $purge,
    purge   => $purge,
    force   => $purge,
    require => Package['overlayd'],
  }

  $specs.each |$name, $attributes| {
    file { "/etc/overlayd/${name}":
      * => { 'ensure' => file, 'owner' => 'root', 'group' => 'root', 'mode' => '0644' } + $attributes,
    }
  }

  $values_ensure = $values.empty ? {
    true    => absent,
    default => file,
  }
  file { '/etc/overlayd/puppet.auto.vars.hcl':
    ensure  => $values_ensure,
    owner   => 'root',
    group   => 'root',
    mode    => '0644',
    content => overlayd::values($values),
  }

  if $apply {
    overlayd_apply { '/etc/overlayd':
      allow_empty => $allow_empty,
    }
  }

  if $agent =~ Boolean {
    service { 'overlayd':
      ensure => $agent,
      enable => $agent,
    }

    if $apply {
      # The first agent finds the host as the spec says.
      Overlayd_apply['/etc/overlayd'] -> Service['overlayd']
    } else {
      File['/etc/overlayd'] -> Service['overlayd']
    }
  }
}
