package api

import (
	"net/http"
	"net/http/pprof"

	"github.com/croftdb/croft/tenancy"
)

// debugRoutes is all that the debug listener answers.
func debugRoutes() []route {
	const p = tenancy.Profile
	return []route{
		{"GET", "/debug/pprof", "pprof", p, allTenants, light, 200, false, false, nil, profile(pprof.Index)},
		{"GET", "/debug/pprof/cmdline", "pprof", p, allTenants, light, 200, false, false, nil, profile(pprof.Cmdline)},
		{"GET", "/debug/pprof/profile", "pprof", p, allTenants, light, 200, false, false, []string{"seconds"}, profile(pprof.Profile)},
		{"GET", "/debug/pprof/trace", "pprof", p, allTenants, light, 200, false, false, []string{"seconds"}, profile(pprof.Trace)},
		{"GET", "/debug/pprof/{profile}", "pprof", p, allTenants, light, 200, false, false, []string{"debug", "gc", "seconds"}, profile(pprof.Index)},
	}
}

// Debug serves profiles, to those who may have them, on a listener of their own.
func (h *Handler) Debug() http.Handler {
	rt := newRouter(debugRoutes())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.serve(rt, w, r) })
}

// profile answers with what a handler of pprof writes.
func profile(write http.HandlerFunc) func(*call) (reply, error) {
	return func(c *call) (reply, error) {
		p := &page{header: c.w.Header(), code: http.StatusOK}
		write(p, c.r)
		return p, nil
	}
}
