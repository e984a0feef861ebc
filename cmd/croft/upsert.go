package main

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"github.com/croftdb/croft/internal/client"
)

func (a *app) upsertCommand() *cobra.Command {
	var (
		conn      connection
		namespace string
	)
	cmd := &cobra.Command{
		Use:   "upsert INDEX RECORDS",
		Short: "Store records, replacing those of the same id",
		Long: `RECORDS is JSON, the path of a file, or - for stdin: one object, an array of them, a line for each, or the body of
an upsert. For large files use ` + "`croft import`" + `.`,
		Example: `  croft upsert docs '{"id":"a","values":[0.1,0.2,0.3],"metadata":{"lang":"en"}}' -n acme
  croft upsert docs - -n acme < records.jsonl`,
		Args: exactly("INDEX", "RECORDS"),
		RunE: func(cmd *cobra.Command, args []string) error {
			records, err := a.recordsArgument(args[1])
			if err != nil {
				return err
			}
			ix, err := a.connectIndex(cmd.Context(), conn, args[0])
			if err != nil {
				return err
			}
			n, err := upsertAll(cmd.Context(), ix, namespace, records)
			if err != nil {
				return err
			}
			a.note("%s stored", counted(n, "record"))
			return a.print(listing{value: map[string]int{"upsertedCount": n}, header: []string{"UPSERTED"}, rows: [][]string{{thousands(n)}}})
		},
	}
	conn.addFlags(cmd)
	addNamespaceFlag(cmd, &namespace)
	return cmd
}

func addNamespaceFlag(cmd *cobra.Command, namespace *string) {
	cmd.Flags().StringVarP(namespace, "namespace", "n", "", "the namespace (default: the one without a name)")
}

// recordsArgument reads records in any of the forms that `croft upsert` takes.
func (a *app) recordsArgument(s string) ([]jsontext.Value, error) {
	b, err := a.argumentBytes(s)
	if err != nil {
		return nil, usagef("RECORDS: %w", err)
	}
	var records []jsontext.Value
	dec := jsontext.NewDecoder(bytes.NewReader(b))
	for {
		v, err := dec.ReadValue()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, usagef("RECORDS is neither JSON nor a file: %w", err)
		}
		some, err := recordsIn(v.Clone())
		if err != nil {
			return nil, err
		}
		records = append(records, some...)
	}
	if len(records) == 0 {
		return nil, usagef("RECORDS holds no record")
	}
	return records, nil
}

func recordsIn(v jsontext.Value) ([]jsontext.Value, error) {
	var many []jsontext.Value
	switch v.Kind() {
	case '[':
		if err := json.Unmarshal(v, &many); err != nil {
			return nil, usagef("RECORDS: %w", err)
		}
		return many, nil
	case '{':
		var body struct {
			Vectors   []jsontext.Value `json:"vectors"`
			Namespace string           `json:"namespace"`
		}
		switch err := json.Unmarshal(v, &body); {
		case err != nil || body.Vectors == nil:
			return []jsontext.Value{v}, nil
		case body.Namespace != "": // to ignore it would put records where nobody looks for them
			return nil, usagef("RECORDS names the namespace %q", body.Namespace).withHint("take it out, and say -n %s instead", body.Namespace)
		}
		return body.Vectors, nil
	}
	return nil, usagef("RECORDS holds %.40q where a record should be", v)
}

// upsertAll sends records in as few requests as the server's limits allow.
func upsertAll(ctx context.Context, ix *client.Index, namespace string, records []jsontext.Value) (stored int, err error) {
	for len(records) > 0 {
		n := fittingPrefix(records, client.MaxBody-client.UpsertOverhead(namespace))
		got, err := ix.UpsertEncoded(ctx, namespace, records[:n])
		if err != nil {
			return stored, err
		}
		stored += got
		records = records[n:]
	}
	return stored, nil
}

// fittingPrefix counts the records of one request: at least one, so that the server tells of one that is too large.
func fittingPrefix(records []jsontext.Value, room int) int {
	n := 0
	for n < len(records) && n < client.MaxUpsert {
		room -= len(records[n]) + 1
		if room < 0 {
			break
		}
		n++
	}
	return max(n, 1)
}
