package main

import (
	"net"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/croftdb/croft/internal/certs"
)

// peerConfig holds the settings of a node among others.
type peerConfig struct {
	listen    string // "": no other node can reach this one, and it reaches none
	advertise string // "": the address listened on
	join      string
	joinToken string
	replicas  int // 0: by the number of nodes
	zone      string
	rate      sizeValue // of checkpoints, bytes per second
	cert      string
	key       string
	ca        string
}

// peerPortOffset is how far the peer port is above the client port, where nothing else is said.
const peerPortOffset = 100

func (p *peerConfig) addFlags(f *pflag.FlagSet) {
	f.StringVar(&p.listen, "peer-listen", p.listen, "address for other nodes, e.g. 127.0.0.1:5180; anything but loopback needs --peer-cert, --peer-key and --peer-ca (default: none, or the port 100 above --listen with --join)")
	f.StringVar(&p.advertise, "peer-advertise", p.advertise, "HOST:PORT at which other nodes reach this one (default --peer-listen)")
	f.StringVar(&p.join, "join", p.join, "peer address of any node of the cluster that a new node joins")
	f.StringVar(&p.joinToken, "join-token", p.joinToken, "the token that `croft nodes add` printed; CROFT_JOIN_TOKEN keeps it off the command line")
	f.IntVar(&p.replicas, "replicas", p.replicas, "nodes that hold each shard: 1, 3 or 5 (default 3 where there are three nodes, else 1)")
	f.StringVar(&p.zone, "zone", p.zone, "where this node stands, e.g. eu-1a; replicas are kept in different zones where they can be")
	f.Var(&p.rate, "checkpoint-rate", "bytes per second in which this node hands shards' files to others; off: no limit")
	f.StringVar(&p.cert, "peer-cert", p.cert, "certificate of this node, PEM file")
	f.StringVar(&p.key, "peer-key", p.key, "its private key, PEM file")
	f.StringVar(&p.ca, "peer-ca", p.ca, "certificates of the authority that signs nodes, PEM file")
}

// settle gives a node that joins a peer port.
func (p *peerConfig) settle(listen string) {
	if p.join == "" || p.listen != "" {
		return
	}
	if host, port, err := splitAddress(listen); err == nil && port > 0 {
		p.listen = net.JoinHostPort(host, strconv.Itoa(port+peerPortOffset))
	}
}

// files of mutual TLS; without all of them there is none, see validate.
func (p *peerConfig) files() certs.Files { return certs.Files{Cert: p.cert, Key: p.key, CA: p.ca} }

// tls reports whether nodes speak with mutual TLS.
func (p *peerConfig) tls() bool { return p.cert != "" && p.key != "" && p.ca != "" }

// validate tells each fault to add.
func (p *peerConfig) validate(add func(format string, args ...any)) {
	if p.listen != "" {
		p.validateListen(add)
	}
	p.validateAdvertise(add)
	p.validateJoin(add)
	if missing := p.missingFiles(); len(missing) > 0 && len(missing) < 3 {
		add("mutual TLS between nodes needs %s too", strings.Join(missing, " and "))
	}
	if p.replicas != 0 && p.replicas != 1 && p.replicas != 3 && p.replicas != 5 {
		add("--replicas is %d, must be 1, 3 or 5", p.replicas)
	}
	if p.rate == 0 {
		add("--checkpoint-rate is 0, must be at least 1, or off for no limit")
	}
	if len(p.zone) > 63 {
		add("--zone has %d bytes, at most 63", len(p.zone))
	}
}

func (p *peerConfig) validateListen(add func(format string, args ...any)) {
	host, _, err := splitAddress(p.listen)
	switch {
	case err != nil:
		add("--peer-listen: %w", err)
	case !isLoopback(p.listen) && !p.tls():
		add("--peer-listen %s is not loopback, and nodes would speak there without TLS: give %s (`croft certs` makes all three)",
			p.listen, strings.Join(p.missingFiles(), ", "))
	case isUnspecified(host) && p.advertise == "":
		add("--peer-listen %s is no address that others can dial: give --peer-advertise HOST:PORT", p.listen)
	}
}

func (p *peerConfig) validateAdvertise(add func(format string, args ...any)) {
	if p.advertise == "" {
		return
	}
	host, port, err := splitAddress(p.advertise)
	switch {
	case err != nil:
		add("--peer-advertise: %w", err)
	case port == 0 || isUnspecified(host):
		add("--peer-advertise %s is no address that others can dial", p.advertise)
	case p.listen == "":
		add("--peer-advertise needs --peer-listen")
	}
}

func (p *peerConfig) validateJoin(add func(format string, args ...any)) {
	if p.join == "" && p.joinToken != "" {
		add("--join-token needs --join, the peer address of a node of the cluster")
	}
	if p.join == "" {
		return
	}
	if _, port, err := splitAddress(p.join); err != nil || port == 0 {
		add("--join %s is not HOST:PORT, a node's peer address", p.join)
	}
}

// missingFiles are the flags of TLS that are not given.
func (p *peerConfig) missingFiles() (flags []string) {
	for _, f := range []struct{ value, flag string }{{p.cert, "--peer-cert"}, {p.key, "--peer-key"}, {p.ca, "--peer-ca"}} {
		if f.value == "" {
			flags = append(flags, f.flag)
		}
	}
	return flags
}

func isUnspecified(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}
