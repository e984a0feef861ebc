// Package house owns the mechanical rules of this code base: which floor may import which, which package is the one
// door to a library, what replicated code must not touch, and how packages introduce themselves. Each rule is data
// with its reason, and a test runs all of them over the tree, so that a rule is kept or changed in the open, never
// forgotten. Only its own test calls it; it reads source files as text and syntax, and runs nothing.
package house

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// module is the import path of the tree's root.
const module = "github.com/croftdb/croft"

// Rule is one rule of the house.
type Rule struct {
	Name  string
	Why   string
	check func(t *Tree) []Violation
}

// Violation is one place where a rule is broken.
type Violation struct {
	Pos  string // file, or file:line
	What string
}

func (v Violation) String() string { return v.Pos + ": " + v.What }

// Check returns the places where r is broken, in the order of files.
func (r Rule) Check(t *Tree) []Violation {
	vs := r.check(t)
	slices.SortFunc(vs, func(a, b Violation) int { return strings.Compare(a.Pos, b.Pos) })
	return vs
}

// Tree is the source of the module.
type Tree struct {
	Files []*File
	Texts map[string]string // contents of all text files, Go and others, by path
	fset  *token.FileSet
}

// File is one Go file.
type File struct {
	Path string // from the root, with slashes
	Dir  string // package directory; "." for the root
	Test bool   // a _test.go file
	AST  *ast.File
}

// Base is the name of the file in its directory.
func (f *File) Base() string { return path.Base(f.Path) }

// Imports maps the names under which a file knows its imports to their paths.
func (f *File) Imports() map[string]string {
	names := map[string]string{}
	for _, spec := range f.AST.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue // the parser has told
		}
		name := path.Base(p)
		if isMajor(name) {
			name = path.Base(path.Dir(p))
		}
		if spec.Name != nil {
			name = spec.Name.Name
		}
		if _, taken := names[name]; taken || name == "_" || name == "." {
			name = p // nobody's name, but the import counts
		}
		names[name] = p
	}
	return names
}

func isMajor(s string) bool {
	return len(s) > 1 && s[0] == 'v' && strings.Trim(s[1:], "0123456789") == ""
}

// Load reads the files of a tree; paths lists them. A Go file that does not parse is an error, one that does not compile
// is not: that is the compiler's to say.
func Load(fsys fs.FS, paths []string) (*Tree, error) {
	t := &Tree{Texts: map[string]string{}, fset: token.NewFileSet()}
	for _, p := range paths {
		b, err := fs.ReadFile(fsys, p)
		if err != nil {
			return nil, err
		}
		if !isText(b) {
			continue
		}
		t.Texts[p] = string(b)
		if path.Ext(p) != ".go" || outsideModule(p) {
			continue
		}
		tree, err := parser.ParseFile(t.fset, p, b, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, fmt.Errorf("parse: %w", err)
		}
		t.Files = append(t.Files, &File{Path: p, Dir: path.Dir(p), Test: strings.HasSuffix(p, "_test.go"), AST: tree})
	}
	return t, nil
}

// isText is how git tells, too: no zero byte near the beginning.
func isText(b []byte) bool { return !strings.Contains(string(b[:min(len(b), 8000)]), "\x00") }

// outsideModule says whether the go command leaves a file out: in testdata, or below a name that begins with "_" or ".".
func outsideModule(p string) bool {
	return slices.ContainsFunc(strings.Split(p, "/"), func(part string) bool {
		return part == "testdata" || part == "node_modules" || part[0] == '_' || part[0] == '.' && part != "."
	})
}

// at is the place of a node.
func (t *Tree) at(n ast.Node) string {
	p := t.fset.Position(n.Pos())
	return fmt.Sprintf("%s:%d", p.Filename, p.Line)
}

// eachFile collects what check finds in each file.
func eachFile(check func(t *Tree, f *File) []Violation) func(t *Tree) []Violation {
	return func(t *Tree) []Violation {
		var vs []Violation
		for _, f := range t.Files {
			vs = append(vs, check(t, f)...)
		}
		return vs
	}
}

// matches reports whether a file is meant by one of the patterns: "dir/..." for all below a directory, else a path with
// the wildcards of path.Match.
func matches(patterns []string, p string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		if dir, ok := strings.CutSuffix(pattern, "/..."); ok {
			return below(p, dir)
		}
		ok, err := path.Match(pattern, p)
		return ok && err == nil
	})
}

// below reports whether p is dir or lies under it.
func below(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

// isKit reports whether a package is for tests only, and may do what tests may.
func isKit(dir string) bool {
	return strings.HasSuffix(path.Base(dir), "test") || dir == "internal/faultdisk" || dir == "internal/house"
}
