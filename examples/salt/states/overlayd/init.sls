{#- The spec files come as they are: what differs between hosts are values, in the pillar. -#}
{%- set settings = salt['pillar.get']('overlayd', {}) -%}
{%- set directory = '/etc/overlayd' -%}
{%- set sources = settings.get('specs') or {} -%}
{%- set values = settings.get('values') or {} -%}

{#- What will lie in the directory: file by file its text, or none for one that goes. -#}
{%- set files = {} -%}
{%- for name, source in sources.items() -%}
  {%- do files.update({name: salt['cp.get_file_str'](source, saltenv=saltenv) if source else none}) -%}
{%- endfor -%}
{%- do files.update({'salt.auto.vars.hcl': salt['overlayd.hcl'](values) if values else none}) -%}

overlayd-package:
  pkg.installed:
{%- if settings.get('deb') %}
    - sources:
      - overlayd: {{ settings['deb'] | tojson }}
{%- else %}
    - name: overlayd
{%- endif %}

# Refuses a spec that is not valid, before any of its files is replaced.
overlayd-spec:
  overlayd.valid:
    - name: {{ directory }}
    - files: {{ files | tojson }}
    - require:
      - pkg: overlayd-package
{% for name, text in files.items() %}
overlayd-file-{{ name }}:
{%- if text is none %}
  file.absent:
    - name: {{ directory }}/{{ name }}
{%- else %}
  file.managed:
    - name: {{ directory }}/{{ name }}
    {%- if name in sources %}
    - source: {{ sources[name] | tojson }}
    {%- else %}
    - contents: {{ text | tojson }}
    {%- endif %}
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True
{%- endif %}
    - require:
      - overlayd: overlayd-spec
    - require_in:
      - overlayd: overlayd-applied
{% endfor %}
overlayd-applied:
  overlayd.applied:
    - name: {{ directory }}
    - files: {{ files | tojson }}
    - allow_empty: {{ settings.get('allow_empty', False) | tojson }}

{%- if 'agent' in settings %}

overlayd-agent:
  {{ 'service.running' if settings['agent'] else 'service.dead' }}:
    - name: overlayd
    - enable: {{ settings['agent'] | tojson }}
    - require:
      - overlayd: overlayd-applied
{%- endif %}
