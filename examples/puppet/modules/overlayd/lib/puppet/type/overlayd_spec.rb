require_relative '../../puppet_x/overlayd'

Puppet::Type.newtype(:overlayd_spec) do
  @doc = <<-DOC
    Checks a spec before any of its files is replaced: all `file` resources of the catalog that lie in the directory
    are put into a copy of it, and `overlayd validate` has to find that valid. If it does not, this resource fails, also
    in noop, with what overlayd says, and the files stay as they are.

    One check for all files, because neither of two files may be valid without the other: a value needs its variable,
    and a variable its value. `validate_cmd` of `file` sees one at a time.

        overlayd_spec { '/etc/overlayd': }
  DOC

  newparam(:path, namevar: true) do
    desc 'The directory of the spec.'
    validate { |value| raise ArgumentError, "#{value} is no absolute path" unless Puppet::Util.absolute_path?(value) }
  end

  newproperty(:ensure) do
    desc 'What the spec is to be.'
    newvalue(:valid)
    defaultto :valid

    # There is nothing to change: a spec is valid, or it fails.
    def retrieve
      unless PuppetX::Overlayd.installed?
        warning('overlayd is not installed yet: the spec is not checked')
        return :valid
      end

      PuppetX::Overlayd.candidate(resource.catalog, resource[:path]) do |dir|
        code, _, err = PuppetX::Overlayd.run('validate', '--as', resource[:path], dir)
        raise Puppet::Error, "The new spec is not valid:\n#{err.strip}" unless code.zero?
      end
      :valid
    end
  end

  autorequire(:package) { 'overlayd' }

  autobefore(:file) do
    catalog.resources.select { |r| r.is_a?(Puppet::Type.type(:file)) }
           .map { |file| file[:path] }.select { |path| path == self[:path] || File.dirname(path) == self[:path] }
  end
end
