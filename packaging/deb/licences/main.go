// Licences writes packaging/deb/copyright: whose work is linked into /usr/bin/overlayd, and under which terms. It reads
// the modules that "go list" finds for the architectures of the package, in Go's module cache.
//
//	go run ./packaging/deb/licences >packaging/deb/copyright
package main

import (
	"context"
	"fmt"
	"os"
)

func main() {
	text, err := Copyright(context.Background(), ".")
	if err != nil {
		fmt.Fprintln(os.Stderr, "licences:", err)
		os.Exit(1)
	}
	os.Stdout.WriteString(text)
}
