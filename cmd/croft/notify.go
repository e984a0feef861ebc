package main

import (
	"log/slog"
	"net"
)

// notify tells the service manager that started this process, if one did, what sd_notify(3) would: "READY=1" once it
// serves, "STOPPING=1" when it ends. Without the news a unit of type notify counts as starting.
func (a *app) notify(log *slog.Logger, state string) {
	path := a.getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"}) // @ stands for the abstract namespace
	if err == nil {
		_, err = conn.Write([]byte(state))
		_ = conn.Close()
	}
	if err != nil {
		log.Warn("the service manager could not be told", "state", state, "err", err)
	}
}
