base:
  '*':
    - overlayd
