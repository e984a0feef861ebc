package house

import (
	"fmt"
	"go/ast"
	"go/types"
	"path"
	"strings"
)

func checkReplicated(t *Tree) []Violation {
	c := &typeChecker{tree: t, done: map[string]*types.Package{}}
	var vs []Violation
	for _, f := range t.Files {
		if f.Test || !matches(replicatedFiles, f.Path) {
			continue
		}
		vs = append(vs, t.uses(f, notReplicated, "differs between replicas: put it into the entry")...)
		vs = append(vs, t.mapLoops(f, c.check(f.Dir))...)
	}
	return vs
}

// mapLoops finds loops over maps, and over the iterators that package maps makes of them.
func (t *Tree) mapLoops(f *File, info *types.Info) []Violation {
	var vs []Violation
	excused := t.linesWith(f, anyOrder)
	ast.Inspect(f.AST, func(n ast.Node) bool {
		loop, ok := n.(*ast.RangeStmt)
		if !ok || !isMap(info, loop.X) && !isMapIterator(f, loop.X) {
			return true
		}
		line := t.fset.Position(loop.Pos()).Line
		if !excused[line] && !excused[line-1] {
			vs = append(vs, Violation{t.at(loop), fmt.Sprintf("loop in map order: sort the keys, or say %q and why in a comment", anyOrder)})
		}
		return true
	})
	return vs
}

func isMap(info *types.Info, x ast.Expr) bool {
	typ := info.TypeOf(x)
	if typ == nil {
		return false
	}
	_, ok := typ.Underlying().(*types.Map)
	return ok
}

func isMapIterator(f *File, x ast.Expr) bool {
	call, ok := x.(*ast.CallExpr)
	if !ok {
		return false
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	pkg, ok := sel.X.(*ast.Ident)
	return ok && f.Imports()[pkg.Name] == "maps"
}

// linesWith returns the last line of each comment that holds a text.
func (t *Tree) linesWith(f *File, text string) map[int]bool {
	lines := map[int]bool{}
	for _, g := range f.AST.Comments {
		if strings.Contains(g.Text(), text) {
			lines[t.fset.Position(g.End()).Line] = true
		}
	}
	return lines
}

// typeChecker finds the types of our own packages. Everybody else's are taken for empty: what depends on them stays
// unknown, which costs nothing here, and the check takes no compiler and no time.
type typeChecker struct {
	tree  *Tree
	done  map[string]*types.Package
	infos map[string]*types.Info
}

func (c *typeChecker) check(dir string) *types.Info {
	_, _ = c.Import(module + "/" + dir)
	return c.infos[dir]
}

// Import implements types.Importer.
func (c *typeChecker) Import(imp string) (*types.Package, error) {
	if p := c.done[imp]; p != nil {
		return p, nil
	}
	fake := types.NewPackage(imp, path.Base(imp))
	fake.MarkComplete()
	c.done[imp] = fake
	dir, ours := strings.CutPrefix(imp, module+"/")
	if !ours {
		return fake, nil
	}
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{}}
	conf := types.Config{Importer: c, Error: func(error) {}} // unknown imports make many
	pkg, _ := conf.Check(imp, c.tree.fset, c.filesOf(dir), info)
	if c.infos == nil {
		c.infos = map[string]*types.Info{}
	}
	c.done[imp], c.infos[dir] = pkg, info
	return pkg, nil
}

func (c *typeChecker) filesOf(dir string) []*ast.File {
	var files []*ast.File
	for _, f := range c.tree.Files {
		if f.Dir == dir && !f.Test {
			files = append(files, f.AST)
		}
	}
	return files
}
