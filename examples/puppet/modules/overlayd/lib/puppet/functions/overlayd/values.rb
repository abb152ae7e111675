# Renders values of variables as a file that overlayd reads beside the spec.
Puppet::Functions.create_function(:'overlayd::values') do
  # @param values The values by the variables' names.
  # @return [String] The text of a *.auto.vars.hcl file.
  # @example
  #   overlayd::values({ 'clients' => ['ada', 'grace'] })
  dispatch :values do
    param 'Hash[String[1], Data]', :values
    return_type 'String'
  end

  def values(values)
    "# Written by Puppet, which undoes other changes.\n" +
      values.sort.map { |name, value| "#{name} = #{expression(value, '')}\n" }.join
  end

  def expression(value, indent)
    case value
    when nil then 'null'
    when String then quote(value)
    when Array then block('[', ']', value.map { |item| expression(item, "#{indent}  ") }, indent)
    when Hash
      items = value.map { |key, item| "#{quote(key)} = #{expression(item, "#{indent}  ")}" }
      block('{', '}', items, indent)
    else value.to_s
    end
  end

  def block(first, last, items, indent)
    return first + last if items.empty?

    "#{first}\n#{items.map { |item| "#{indent}  #{item},\n" }.join}#{indent}#{last}"
  end

  # ${ and %{ would begin a template.
  def quote(text)
    text = text.gsub(/["\\[:cntrl:]]/) { |c| escape(c) }
    "\"#{text.gsub(/([$%])\{/, '\1\1{')}\""
  end

  def escape(char)
    case char
    when '"', '\\' then "\\#{char}"
    when "\n" then '\n'
    when "\t" then '\t'
    else format('\u%04x', char.ord)
    end
  end
end
