# Several directories seen as one, which nobody can write to: no upperdir, no
# workdir, two lowerdirs at least.

lowerdir "site" {
  path = "/srv/docs/site"
}

lowerdir "vendor" {
  path = "/srv/docs/vendor"
}

overlay "docs" {
  # The site's pages win over the vendor's of the same name.
  lowerdirs  = [lowerdir.site, lowerdir.vendor]
  mountpoint = "/srv/www/docs"
  read_only  = true

  unit {
    # A directory on another machine: mount it after the network is up.
    network = true
  }
}

# The same for every language that is there, with a fallback below.
overlay "translated" {
  for_each = {
    de = "/srv/docs/de"
    fr = "/srv/docs/fr"
  }
  lowerdirs  = [each.value, lowerdir.site, lowerdir.vendor]
  mountpoint = "/srv/www/docs-${each.key}"
  read_only  = true
}
