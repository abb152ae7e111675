require 'fileutils'
require 'open3'
require 'tmpdir'

# What the types overlayd_spec and overlayd_apply share.
module PuppetX
  # Runs overlayd, and knows what a run of Puppet is going to put into its directory.
  module Overlayd
    module_function

    # Whether overlayd is there: in a noop run the package may still be missing.
    def installed?
      !Puppet::Util.which('overlayd').nil?
    end

    # @return [Array] exit code, stdout, stderr
    def run(*arguments)
      out, err, status = Open3.capture3('overlayd', *arguments)
      [status.exitstatus, out.force_encoding('UTF-8'), err.force_encoding('UTF-8')]
    end

    # Yields a temporary directory with the files of directory as they are when the catalog has been applied. What a
    # directory resource would copy by itself, and symlinks of the catalog, are not foreseen.
    def candidate(catalog, directory)
      files = catalog.resources.select { |r| r.is_a?(Puppet::Type.type(:file)) }
      Dir.mktmpdir('overlayd-') do |dir|
        copy(directory, dir) unless purged?(files, directory)
        files.each do |file|
          next unless File.dirname(file[:path]) == directory

          place(file, File.join(dir, File.basename(file[:path])))
        end
        yield dir
      end
    end

    def copy(from, to)
      Dir.glob(File.join(from, '*.hcl')).each { |file| FileUtils.cp(file, to) if File.file?(file) }
    end

    def purged?(files, directory)
      files.any? { |file| file[:path] == directory && file.purge? && file.recurse? }
    end

    def place(file, path)
      if file[:ensure] == :absent
        FileUtils.rm_f(path)
      elsif (text = file.parameter(:source) || file.parameter(:content))
        File.open(path, 'wb') { |io| text.write(io) }
      elsif File.file?(file[:path])
        FileUtils.cp(file[:path], path)
      end
    end
  end
end
