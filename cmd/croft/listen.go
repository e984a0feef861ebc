package main

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/croftdb/croft/internal/errs"
)

// portsPerServer is how far a suggested port is from a taken one: a server uses its port, 40 for indexes and the
// peer port 100 above.
const portsPerServer = 200

// probe sees that an address can be listened at.
func probe(address string) error {
	l, err := listen(address, "--listen")
	if err != nil {
		return err
	}
	return l.Close()
}

// listen opens the address that a flag gave, or tells who has it and what to do.
func listen(address, flag string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err == nil {
		return l, nil
	}
	host, port, _ := splitAddress(address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, errs.New(errs.AlreadyExists, "%s is in use%s", address, holderText(port)).
			WithHint("use %s %s or stop it", flag, net.JoinHostPort(host, fmt.Sprint(freePortAbove(host, port))))
	case errors.Is(err, syscall.EACCES):
		return nil, errs.New(errs.PermissionDenied, "this user may not listen at %s", address).
			WithHint("use a port of 1024 or above")
	}
	return nil, errs.Wrap(errs.Invalid, err, "%s %s", flag, address)
}

// freePortAbove looks for a port that is free, in steps that leave room for a server's other ports.
func freePortAbove(host string, port int) int {
	for p := port + portsPerServer; p < 65536-portsPerServer; p += portsPerServer {
		if l, err := net.Listen("tcp", net.JoinHostPort(host, fmt.Sprint(p))); err == nil {
			l.Close()
			return p
		}
	}
	return 0
}

func holderText(port int) string {
	pid, name := portHolder(port)
	if pid == 0 {
		return " by another program"
	}
	return fmt.Sprintf(" by pid %d (%s)", pid, name)
}

// dialable is the URL of a listener as this machine can reach it: "all addresses" is none to dial.
func dialable(addr net.Addr) string {
	host, port, _ := net.SplitHostPort(addr.String())
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}
