package main

import (
	"net/http"
	"time"
)

// openDebug serves profiles at a loopback address of its own, to those who may have them; "" serves none.
func (f *floors) openDebug(address string) error {
	if address == "" {
		return nil
	}
	l, err := listen(address, "--debug-listen")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: f.handler.Debug(), ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(l) }() // ends with Close, and says so
	f.add(server.Close)
	return nil
}
