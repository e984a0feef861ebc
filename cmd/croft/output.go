package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"go.yaml.in/yaml/v3"
)

var formats = []string{"table", "json", "jsonl", "csv", "yaml"}

// listing is the data that a verb prints: as the API has it, and as a table.
type listing struct {
	value  any   // json, yaml
	items  []any // jsonl, one a line; nil: value alone
	header []string
	rows   [][]string
}

// done is the data of a verb that has none: {}, as the API answers, and no table.
func done() listing { return listing{value: struct{}{}} }

// itemsOf makes a listing's items of a slice.
func itemsOf[T any](s []T) []any {
	items := make([]any, len(s))
	for i, v := range s {
		items[i] = v
	}
	return items
}

func (a *app) checkFormat() error {
	if a.json {
		a.format = "json"
	}
	if !slices.Contains(formats, a.format) {
		return usagef("-o %s is none of %s", a.format, strings.Join(formats, ", "))
	}
	return nil
}

func (a *app) print(l listing) error {
	switch a.format {
	case "json":
		return printJSON(a.stdout, l.value, jsontext.WithIndent("  "))
	case "jsonl":
		return printLines(a.stdout, l)
	case "csv":
		return printCSV(a.stdout, l)
	case "yaml":
		return printYAML(a.stdout, l.value)
	}
	return printTable(a.stdout, l)
}

func printJSON(w io.Writer, v any, opts ...json.Options) error {
	b, err := json.Marshal(v, append(opts, json.Deterministic(true))...)
	if err != nil {
		return fmt.Errorf("encode output: %w", err)
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

func printLines(w io.Writer, l listing) error {
	if l.items == nil {
		return printJSON(w, l.value)
	}
	for _, item := range l.items {
		if err := printJSON(w, item); err != nil {
			return err
		}
	}
	return nil
}

func printCSV(w io.Writer, l listing) error {
	c := csv.NewWriter(w)
	if len(l.header) > 0 {
		if err := c.Write(l.header); err != nil {
			return err
		}
	}
	return c.WriteAll(l.rows)
}

// printYAML goes by way of JSON, so that both have the same names.
func printYAML(w io.Writer, v any) error {
	b, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		return fmt.Errorf("encode output: %w", err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil { // JSON is YAML
		return fmt.Errorf("encode output: %w", err)
	}
	blockStyle(&doc)
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	return errors.Join(enc.Encode(&doc), enc.Close())
}

func blockStyle(n *yaml.Node) {
	n.Style &^= yaml.FlowStyle
	if n.Kind == yaml.ScalarNode && n.Style == yaml.DoubleQuotedStyle {
		n.Style = 0 // quoted again where it must be
	}
	for _, child := range n.Content {
		blockStyle(child)
	}
}

func printTable(w io.Writer, l listing) error {
	if len(l.rows) == 0 && len(l.header) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 4, ' ', 0)
	if len(l.header) > 0 {
		fmt.Fprintln(t, strings.Join(l.header, "\t"))
	}
	for _, row := range l.rows {
		fmt.Fprintln(t, strings.Join(printable(row), "\t"))
	}
	return t.Flush()
}

// printable keeps stored text from steering the terminal.
func printable(row []string) []string {
	out := make([]string, len(row))
	for i, cell := range row {
		out[i] = strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
				return utf8.RuneError
			}
			return r
		}, cell)
	}
	return out
}

// thousands groups a number's digits: 12,044.
func thousands[T int | int64 | uint64](n T) string {
	s := strconv.FormatInt(int64(n), 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// bytesText is a size for people: 418 KiB.
func bytesText(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/1024, 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	return fmt.Sprintf("%.1f %ciB", f, units[i])
}

// counted is "1 record" or "12,044 records".
func counted[T int | int64 | uint64](n T, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return thousands(n) + " " + noun + "s"
}
