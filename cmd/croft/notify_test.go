package main

import (
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNotify(t *testing.T) {
	dir, err := os.MkdirTemp("", "") // its path is short enough for a socket
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "s")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	defer l.Close()

	log := slog.New(slog.DiscardHandler)
	newTestApp("", nil).notify(log, "READY=1") // nobody waits for it
	newTestApp("", map[string]string{"NOTIFY_SOCKET": path}).notify(log, "STOPPING=1")
	b := make([]byte, 100)
	n, err := l.Read(b)
	require.NoError(t, err)
	require.Equal(t, "STOPPING=1", string(b[:n]))
	newTestApp("", map[string]string{"NOTIFY_SOCKET": path + "x"}).notify(log, "READY=1") // no reason to stop
}
