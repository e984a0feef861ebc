package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/internal/errs"
)

// library is one kind of index.
type library struct {
	name    string
	version func() string
	metrics []ann.Metric // that it has; nil for all
	program string       // that has it; "" for this one
	alone   bool         // builds with one thread only
	// build makes an index of all rows; row number = id.
	build func(ctx context.Context, rows *rows, s settings, threads int) (index, error)
	// open reads what save wrote. The rows are those that it was built from; an index may go on reading them.
	open func(path string, rows *rows, s settings) (index, error)
}

// index is a built index.
type index interface {
	save(path string) error
	// searcher makes a searcher for one goroutine; ef holds for all searchers of this index from now on.
	searcher(ef int) (searcher, error)
	close()
}

// searcher asks an index. It belongs to one goroutine.
type searcher interface {
	// search writes the ids of the nearest, nearest first, at most len(ids), and returns how many.
	search(ctx context.Context, query []float32, ids []uint32) (int, error)
	close()
}

// beforeLibrary is croft as another build of this command has it, so that two states of the code can be raced.
func beforeLibrary(program string) library {
	return library{name: beforeName, program: program, version: func() string { return "of " + program }}
}

// remote is the name that the program which has the library knows it by.
func (l *library) remote() string {
	if l.name == beforeName {
		return croftName
	}
	return l.name
}

// executable is the program that has the library.
func (l *library) executable() (string, error) {
	if l.program != "" {
		return l.program, nil
	}
	return os.Executable()
}

// libraries are all that can be measured, croft last.
func libraries() []library {
	return append(nativeLibraries(), coderLibrary(), croftLibrary())
}

func libraryNamed(name string) (library, error) {
	all := libraries()
	i := slices.IndexFunc(all, func(l library) bool { return l.name == name })
	if i >= 0 {
		return all[i], nil
	}
	return library{}, errs.New(errs.Invalid, "there is no peer %q here", name).
		WithHint("those here are %s%s", strings.Join(names(all), ", "), nativeHint)
}

func names(all []library) []string {
	var names []string
	for _, l := range all {
		names = append(names, l.name)
	}
	return names
}

// builders returns how many of the threads that may build do.
func (l *library) builders(threads int) int {
	if l.alone {
		return 1
	}
	return threads
}

// supports says whether the library has a metric.
func (l *library) supports(m ann.Metric) bool {
	return l.metrics == nil || slices.Contains(l.metrics, m)
}

// settings are names and values in the order given, "M=16,EfConstruction=200".
type settings string

// links makes the settings that every library has.
func links(m, efConstruction int) settings {
	return settings(fmt.Sprintf("M=%d,EfConstruction=%d", m, efConstruction))
}

// each calls f with each name and value.
func (s settings) each(f func(name, value string) error) error {
	for pair := range strings.SplitSeq(string(s), ",") {
		name, value, ok := strings.Cut(pair, "=")
		if !ok {
			return errs.New(errs.Invalid, "setting %q is not of the form NAME=VALUE", pair)
		}
		if err := f(name, value); err != nil {
			return err
		}
	}
	return nil
}

// links reads the settings that every library has, and refuses others.
func (s settings) links() (m, efConstruction int, err error) {
	var l struct{ M, EfConstruction int }
	err = s.apply(&l)
	return l.M, l.EfConstruction, err
}
