overlayd:
  # Without it the package comes from an apt repository.
  deb: /var/cache/overlayd.deb

  # Files in /etc/overlayd, and where each comes from; null removes one.
  specs:
    lab.hcl: salt://overlayd/files/lab.hcl

  # Values of the spec's variables, written to /etc/overlayd/salt.auto.vars.hcl.
  values:
    clients:
      - ada
      - grace
