package house

import (
	"fmt"
	"go/ast"
	"slices"
	"strings"
)

// placeOf returns the place of a directory; nil when it has none.
func placeOf(dir string) *place {
	for i := range places {
		if below(dir, places[i].dir) {
			return &places[i]
		}
	}
	return nil
}

func checkFloors(t *Tree) []Violation {
	var vs []Violation
	homeless := map[string]bool{}
	for _, f := range t.Files {
		from := placeOf(f.Dir)
		if from == nil {
			if !homeless[f.Dir] {
				homeless[f.Dir] = true
				vs = append(vs, Violation{f.Path, fmt.Sprintf("package %s is on no floor", f.Dir)})
			}
			continue
		}
		for _, imp := range f.Imports() {
			if what := from.forbids(f, imp); what != "" {
				vs = append(vs, Violation{f.Path, what})
			}
		}
	}
	return vs
}

// forbids says what is wrong with an import; "" for nothing.
func (from *place) forbids(f *File, imp string) string {
	dir, ours := strings.CutPrefix(imp, module+"/")
	if !ours {
		return ""
	}
	if isKit(dir) {
		if f.Test || isKit(f.Dir) {
			return ""
		}
		return fmt.Sprintf("imports %s, which is for tests", dir)
	}
	to := placeOf(dir)
	switch {
	case to == nil:
		return fmt.Sprintf("imports %s, which is on no floor", dir)
	case to == from || slices.Contains(from.also, to.dir):
		return ""
	case slices.Contains(from.not, to.dir):
		return fmt.Sprintf("%s must not import %s: %s", from.dir, to.dir, from.why)
	case to.floor >= from.floor:
		return fmt.Sprintf("%s (floor %d) must not import %s (floor %d)", from.dir, from.floor, to.dir, to.floor)
	}
	return ""
}

func checkDoors(_ *Tree, f *File) []Violation {
	var vs []Violation
	for _, imp := range f.Imports() {
		for _, d := range doors {
			if d.covers(imp) && !d.opens(f) {
				vs = append(vs, Violation{f.Path, fmt.Sprintf("imports %s: %s", imp, d.why)})
			}
		}
	}
	return vs
}

func (d door) covers(imp string) bool {
	return imp == d.lib || !exact[d.lib] && below(imp, d.lib)
}

func (d door) opens(f *File) bool {
	return matches(d.where, f.Path) || !d.alsoTests && (f.Test || isKit(f.Dir))
}

func checkFileAccess(t *Tree, f *File) []Violation {
	if f.Test || isKit(f.Dir) || matches(fileAccessAllowed, f.Path) {
		return nil
	}
	return t.uses(f, fileAccess, "reach files through internal/vfs")
}

// uses finds the names of packages that a file mentions though they are banned.
func (t *Tree) uses(f *File, banned map[string][]string, advice string) []Violation {
	var vs []Violation
	imports := f.Imports()
	ast.Inspect(f.AST, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		pkg, ok := sel.X.(*ast.Ident)
		if !ok {
			return true
		}
		imp := imports[pkg.Name]
		names := banned[imp]
		if slices.Contains(names, sel.Sel.Name) || slices.Contains(names, "*") && !(imp == "syscall" && sysErrnos[sel.Sel.Name]) {
			vs = append(vs, Violation{t.at(n), fmt.Sprintf("%s.%s: %s", imp, sel.Sel.Name, advice)})
		}
		return true
	})
	return vs
}
