package main

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/croftdb/croft/internal/certs"
)

func (a *app) certsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "certs",
		Short: "Make and show the certificates by which nodes know each other",
		Example: `  croft certs init --dir ./certs
  croft certs node --dir ./certs --host 10.0.0.7 --host db1.internal`,
		Long: "A private authority signs the certificate of each node. Every certificate of the authority may speak for every\n" +
			"node, so sign nothing else with it. Nodes take up new files without a restart.",
	}
	cmd.AddCommand(a.certsInitCommand(), a.certsNodeCommand(), a.certsShowCommand())
	return group(cmd)
}

func (a *app) certsInitCommand() *cobra.Command {
	var (
		dir   string
		force bool
	)
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make a private authority",
		Example: `  croft certs init --dir ./certs
  croft certs init --dir ./certs --force`,
		Args: exactly(),
		RunE: func(*cobra.Command, []string) error {
			ca, err := certs.Authority(dir, force)
			if err != nil {
				return err
			}
			a.note("Keep %s where no node is: who has it can make nodes.", ca.KeyPath)
			a.note("Next, for each node: croft certs node --dir %s --host NAME-OR-IP", dir)
			return a.print(certListing(certified(ca.CertPath, ca.KeyPath, ca.Cert)))
		},
	}
	addCertFlags(cmd, &dir, &force)
	return cmd
}

func (a *app) certsNodeCommand() *cobra.Command {
	var (
		dir   string
		hosts []string
		force bool
	)
	cmd := &cobra.Command{
		Use:   "node",
		Short: "Make the certificate of a node",
		Example: `  croft certs node --dir ./certs --host 10.0.0.7
  croft certs node --dir ./certs --host db1.internal --host 10.0.0.7 --force`,
		Args: exactly(),
		RunE: func(*cobra.Command, []string) error {
			if len(hosts) == 0 {
				return usagef("a node needs --host, a name or IP address under which others reach it")
			}
			node, err := certs.Node(dir, hosts, force)
			if err != nil {
				return err
			}
			ca := filepath.Join(dir, certs.CAFile)
			a.note("Copy %s, %s and %s to the node, not the authority's key. There:", node.CertPath, node.KeyPath, ca)
			a.note("  croft serve --data DIR --peer-listen %s:5180 --peer-cert %s --peer-key %s --peer-ca %s", bracketed(hosts[0]),
				filepath.Base(node.CertPath), filepath.Base(node.KeyPath), certs.CAFile)
			return a.print(certListing(certified(node.CertPath, node.KeyPath, node.Cert)))
		},
	}
	addCertFlags(cmd, &dir, &force)
	cmd.Flags().StringSliceVar(&hosts, "host", nil, "name or IP address under which other nodes reach it, repeatable; the first names the files")
	return cmd
}

func addCertFlags(cmd *cobra.Command, dir *string, force *bool) {
	cmd.Flags().StringVar(dir, "dir", "certs", "directory of the authority and of what it signs")
	cmd.Flags().BoolVar(force, "force", false, "replace files that are there")
}

func (a *app) certsShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show FILE",
		Short: "Show the certificates in a file",
		Example: `  croft certs show ./certs/ca.crt
  croft certs show ./certs/10.0.0.7.crt -o json`,
		Args: exactly("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			found, err := certs.Read(args[0])
			if err != nil {
				return err
			}
			var all []certificate
			for _, c := range found {
				all = append(all, certified(args[0], "", c))
			}
			return a.print(certListing(all...))
		},
	}
}

// certificate is what `croft certs` prints of one.
type certificate struct {
	File        string    `json:"file"`
	Key         string    `json:"key,omitempty"`
	Subject     string    `json:"subject"`
	Issuer      string    `json:"issuer"`
	Authority   bool      `json:"authority"`
	Hosts       []string  `json:"hosts"`
	NotBefore   time.Time `json:"not_before"`
	NotAfter    time.Time `json:"not_after"`
	Fingerprint string    `json:"sha256"`
}

func certified(file, key string, c *x509.Certificate) certificate {
	sum := sha256.Sum256(c.Raw)
	return certificate{
		File: file, Key: key, Subject: c.Subject.CommonName, Issuer: c.Issuer.CommonName, Authority: c.IsCA, Hosts: certs.Hosts(c),
		NotBefore: c.NotBefore, NotAfter: c.NotAfter, Fingerprint: hex.EncodeToString(sum[:]),
	}
}

func certListing(all ...certificate) listing {
	l := listing{value: map[string]any{"certificates": all}, items: itemsOf(all), header: []string{"FILE", "SUBJECT", "HOSTS", "ISSUER", "UNTIL"}}
	for _, c := range all {
		hosts := strings.Join(c.Hosts, ",")
		if hosts == "" {
			hosts = "-"
		}
		l.rows = append(l.rows, []string{c.File, c.Subject, hosts, c.Issuer, c.NotAfter.Format(time.DateOnly)})
	}
	return l
}

// bracketed is a host as it stands in front of a port.
func bracketed(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}
