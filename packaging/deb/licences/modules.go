package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A Module is a part of the program that has an author of its own.
type Module struct {
	Name  string   // PATH@VERSION, or "go" for the standard library
	Dir   string   // where it lies
	Files []string // what of it is compiled for one architecture or another
}

// linked finds the modules whose packages are part of the program for any of the architectures. The program's own is
// not among them.
func linked(ctx context.Context, root string, arches []string) ([]Module, error) {
	files := map[string]map[string]bool{} // by the module's name
	dirs := map[string]string{}
	for _, arch := range arches {
		cmd := exec.CommandContext(ctx, "go", "list", "-mod=readonly", "-deps",
			"-json=Dir,Goroot,GoFiles,SFiles,Module", "./cmd/overlayd")
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0", "GOWORK=off")
		out, err := cmd.Output()
		if err != nil {
			if failed, ok := errors.AsType[*exec.ExitError](err); ok {
				err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(failed.Stderr))
			}
			return nil, fmt.Errorf("cannot list what is linked for %s: %w", arch, err)
		}
		for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
			var p struct {
				Dir             string
				Goroot          bool
				GoFiles, SFiles []string
				Module          *struct {
					Path, Version, Dir string
					Main               bool
				}
			}
			if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return nil, fmt.Errorf("cannot read what go list says: %w", err)
			}
			if p.Goroot || p.Module == nil || p.Module.Main {
				continue // the standard library is one work, whatever is used of it
			}
			name := p.Module.Path + "@" + p.Module.Version
			dirs[name] = p.Module.Dir
			if files[name] == nil {
				files[name] = map[string]bool{}
			}
			for _, file := range slices.Concat(p.GoFiles, p.SFiles) {
				files[name][filepath.Join(p.Dir, file)] = true
			}
		}
	}
	modules := make([]Module, 0, len(dirs))
	for _, name := range slices.Sorted(maps.Keys(dirs)) {
		modules = append(modules, Module{name, dirs[name], slices.Sorted(maps.Keys(files[name]))})
	}
	return modules, nil
}

// goroot is where the standard library's licence lies.
func goroot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("cannot ask go for its GOROOT: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// architectures are those of debian/control, which Go calls the same.
func architectures(root string) ([]string, error) {
	path := filepath.Join(root, "packaging/deb/control")
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	line := regexp.MustCompile(`(?m)^Architecture:(.*)$`).FindSubmatch(data)
	if line == nil {
		return nil, fmt.Errorf("%s names no Architecture", path)
	}
	return strings.Fields(string(line[1])), nil
}
