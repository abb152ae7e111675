package safedir

// AsideName is where a directory is made before it is renamed.
var AsideName = asideName
