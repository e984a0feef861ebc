//go:build cgo

package main

// #cgo CXXFLAGS: -O3 -march=native -std=c++17 -fopenmp -DNDEBUG
// #cgo LDFLAGS: -lfaiss -llapack -lblas -lgomp -lstdc++ -lpthread -lm
// #cgo noescape peer_search
// #cgo nocallback peer_search
// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"context"
	"errors"
	"fmt"
	"unsafe"

	"github.com/croftdb/croft/ann"
)

// nativeHint follows the list of peers where some are left out.
const nativeHint = ""

func compiler() string { return C.GoString(C.compiler_version()) }

type (
	nativeBuild = func(p C.peer_params, rows *C.float, n C.size_t, fault *C.char) *C.peer_index
	nativeOpen  = func(p C.peer_params, path, fault *C.char) *C.peer_index
)

// nativeLibraries are those behind shim.h.
func nativeLibraries() []library {
	faiss := func() string { return C.GoString(C.faiss_version()) + packageVersion(" (Debian %s)", "libfaiss-dev") }
	return []library{
		native("hnswlib", func() string { return packageVersion("%s", "libhnswlib-dev") },
			func(p C.peer_params, rows *C.float, n C.size_t, fault *C.char) *C.peer_index {
				return C.hnswlib_build(p, rows, n, fault)
			},
			func(p C.peer_params, path, fault *C.char) *C.peer_index { return C.hnswlib_open(p, path, fault) }),
		native("faiss-hnswflat", faiss,
			func(p C.peer_params, rows *C.float, n C.size_t, fault *C.char) *C.peer_index {
				return C.faiss_flat_build(p, rows, n, fault)
			}, openFaiss),
		native("faiss-hnswsq8", faiss,
			func(p C.peer_params, rows *C.float, n C.size_t, fault *C.char) *C.peer_index {
				return C.faiss_sq8_build(p, rows, n, fault)
			}, openFaiss),
	}
}

func openFaiss(p C.peer_params, path, fault *C.char) *C.peer_index {
	return C.faiss_open(p, path, fault)
}

func native(name string, version func() string, build nativeBuild, open nativeOpen) library {
	return library{
		name: name, version: version,
		build: func(_ context.Context, r *rows, s settings, threads int) (index, error) {
			p, err := nativeParams(r, s, threads)
			if err != nil {
				return nil, err
			}
			values := r.units()
			return newNative(r, func(fault *C.char) *C.peer_index {
				return build(p, (*C.float)(unsafe.SliceData(values)), C.size_t(r.n), fault)
			})
		},
		open: func(path string, r *rows, s settings) (index, error) {
			p, err := nativeParams(r, s, 1)
			if err != nil {
				return nil, err
			}
			name := C.CString(path)
			defer C.free(unsafe.Pointer(name))
			return newNative(r, func(fault *C.char) *C.peer_index { return open(p, name, fault) })
		},
	}
}

func nativeParams(r *rows, s settings, threads int) (C.peer_params, error) {
	m, efConstruction, err := s.links()
	p := C.peer_params{
		metric: C.METRIC_IS_IP, dim: C.int(r.dim), m: C.int(m), ef_construction: C.int(efConstruction), threads: C.int(threads),
	}
	if r.metric == ann.Euclidean {
		p.metric = C.METRIC_IS_L2
	}
	return p, err
}

// failing calls f with room for a fault and returns what it says if f reports failure.
func failing(f func(fault *C.char) bool) error {
	var fault [C.FAULT_SIZE]C.char
	if f(&fault[0]) {
		return nil
	}
	return errors.New(C.GoString(&fault[0]))
}

// nativeIndex is an index of a C++ library.
type nativeIndex struct {
	index *C.peer_index
	units bool // queries are scaled to unit length
}

func newNative(r *rows, make func(fault *C.char) *C.peer_index) (index, error) {
	x := &nativeIndex{units: r.metric == ann.Cosine}
	err := failing(func(fault *C.char) bool {
		x.index = make(fault)
		return x.index != nil
	})
	if err != nil {
		return nil, err
	}
	return x, nil
}

func (x *nativeIndex) save(path string) error {
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	err := failing(func(fault *C.char) bool { return C.peer_save(x.index, name, fault) == 0 })
	if err != nil {
		return fmt.Errorf("save %s: %w", path, err)
	}
	return nil
}

func (x *nativeIndex) searcher(ef int) (searcher, error) {
	s := &nativeSearcher{units: x.units}
	err := failing(func(fault *C.char) bool {
		s.searcher = C.peer_searcher_new(x.index, C.int(ef), fault)
		return s.searcher != nil
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (x *nativeIndex) close() { C.peer_close(x.index) }

type nativeSearcher struct {
	searcher *C.peer_searcher
	units    bool
	unit     []float32
}

func (s *nativeSearcher) search(_ context.Context, query []float32, ids []uint32) (int, error) {
	if s.units {
		s.unit = appendUnit(s.unit[:0], query)
		query = s.unit
	}
	n := C.peer_search(s.searcher, (*C.float)(unsafe.SliceData(query)), C.int(len(ids)), (*C.uint32_t)(unsafe.SliceData(ids)))
	if n < 0 {
		return 0, errors.New("the library failed to search")
	}
	return int(n), nil
}

func (s *nativeSearcher) close() { C.peer_searcher_free(s.searcher) }
