package main

import (
	"net/http"
	"net/http/pprof"
	"time"
)

// openDebug serves profiles at a loopback address of its own; "" serves none.
func (f *floors) openDebug(address string) error {
	if address == "" {
		return nil
	}
	l, err := listen(address, "--debug-listen")
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(l) }() // ends with Close, and says so
	f.add(server.Close)
	return nil
}
