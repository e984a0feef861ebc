package main

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDialable(t *testing.T) {
	for listened, want := range map[string]string{
		"127.0.0.1:5080": "http://127.0.0.1:5080",
		"0.0.0.0:5080":   "http://127.0.0.1:5080",
		"[::]:5080":      "http://127.0.0.1:5080",
		"[::1]:5080":     "http://[::1]:5080",
	} {
		addr, err := net.ResolveTCPAddr("tcp", listened)
		require.NoError(t, err)
		require.Equal(t, want, dialable(addr))
	}
}

func TestIsLoopback(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1:1": true, "[::1]:1": true, "localhost:1": true, ":1": false, "0.0.0.0:1": false, "10.0.0.1:1": false, "127.0.0.1": false,
	} {
		require.Equal(t, want, isLoopback(address), address)
	}
}
