require_relative '../../puppet_x/overlayd'

Puppet::Type.newtype(:overlayd_apply) do
  @doc = <<-DOC
    Makes the host as the spec in a directory says, if `overlayd plan` finds that it is not. The plan is logged, also in
    noop, where it counts with the files that the catalog would put into the directory. What cannot be done fails, with
    what overlayd says; all else is done.

        overlayd_apply { '/etc/overlayd': }
  DOC

  newparam(:path, namevar: true) do
    desc 'The directory of the spec.'
    validate { |value| raise ArgumentError, "#{value} is no absolute path" unless Puppet::Util.absolute_path?(value) }
  end

  newparam(:allow_empty, boolean: true, parent: Puppet::Parameter::Boolean) do
    desc 'Whether a spec without any overlay may delete all that it had.'
    defaultto false
  end

  newproperty(:ensure) do
    desc 'What the spec is to be.'
    newvalue(:applied) { @done = resource.apply }
    defaultto :applied

    def retrieve
      resource.plan ? :differs : :applied
    end

    # What overlayd apply says at its end; in noop Puppet 8 asks, too.
    def change_to_s(_current, _wanted)
      @done || 'applied'
    end
  end

  autorequire(:package) { 'overlayd' }
  autorequire(:overlayd_spec) { self[:path] }

  autorequire(:file) do
    catalog.resources.select { |r| r.is_a?(Puppet::Type.type(:file)) }
           .map { |file| file[:path] }.select { |path| File.dirname(path) == self[:path] }
  end

  # Logs the plan and returns it, or nil when the host is as the spec says.
  def plan
    unless PuppetX::Overlayd.installed?
      warning('overlayd is not installed yet: there is no plan')
      return ''
    end
    return plan_of(self[:path]) unless noop?

    PuppetX::Overlayd.candidate(catalog, self[:path]) { |dir| plan_of('--as', self[:path], dir) }
  end

  def plan_of(*arguments)
    code, out, err = PuppetX::Overlayd.run('plan', '--detailed-exitcode', *arguments)
    return nil if code.zero?
    raise Puppet::Error, err.strip unless code == 2

    send(self[:loglevel], "\n#{out}")
    out
  end

  # Applies the spec and returns what was done, in words.
  def apply
    arguments = ['--auto-approve']
    arguments << '--allow-empty' if allow_empty?
    code, out, err = PuppetX::Overlayd.run('apply', *arguments, self[:path])
    done = out.lines.last.to_s.strip
    raise Puppet::Error, "#{done}\n#{err}".strip unless code.zero?

    warning(err.strip) unless err.empty?
    done
  end
end
