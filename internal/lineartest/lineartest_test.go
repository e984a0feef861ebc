package lineartest

import (
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

const patience = 10 * time.Second

// TestCheck sees that the judge is neither blind nor unjust.
func TestCheck(t *testing.T) {
	type step func(h *History)
	write := func(v string, o Outcome) step { return func(h *History) { h.Write(0, "a", v)(o) } }
	read := func(v string) step { return func(h *History) { h.Read(1, "a")(v) } }
	during := func(v string, o Outcome, within ...step) step {
		return func(h *History) {
			end := h.Write(2, "a", v)
			for _, s := range within {
				s(h)
			}
			end(o)
		}
	}
	for name, c := range map[string]struct {
		steps []step
		ok    bool
	}{
		"nothing":                      {nil, true},
		"read what was written":        {[]step{write("1", Done), read("1"), write(Absent, Done), read(Absent)}, true},
		"a lost write":                 {[]step{write("1", Done), read(Absent)}, false},
		"an older value":               {[]step{write("1", Done), write("2", Done), read("1")}, false},
		"a value that nobody wrote":    {[]step{write("1", Done), read("7")}, false},
		"unknown and there":            {[]step{write("1", Unknown), read("1")}, true},
		"unknown and not there":        {[]step{write("1", Unknown), read(Absent)}, true},
		"unknown, and later there":     {[]step{write("1", Unknown), read(Absent), read("1")}, true},
		"unknown, there and gone":      {[]step{write("1", Unknown), read("1"), read(Absent)}, false},
		"refused and there":            {[]step{write("1", Refused), read("1")}, false},
		"at the same time, seen":       {[]step{during("1", Done, read("1")), read("1")}, true},
		"at the same time, not seen":   {[]step{during("1", Done, read(Absent)), read("1")}, true},
		"at the same time, and back":   {[]step{during("1", Done, read("1"), read(Absent))}, false},
		"a delete that comes back":     {[]step{write("1", Done), write(Absent, Done), read("1")}, false},
		"two unknown, in either order": {[]step{write("1", Unknown), write("2", Unknown), read("2"), read("1")}, true},
	} {
		var tick int64
		h := New(func() int64 { tick++; return tick })
		for _, s := range c.steps {
			s(h)
		}
		err := h.Check(patience, "")
		require.Equal(t, c.ok, err == nil, "%s: %v", name, err)
	}
}

// TestCheckJudgesRegisters runs real clients on a map: with its lock all is well, and a record that is read from an old
// copy is found out.
func TestCheckJudgesRegisters(t *testing.T) {
	h := New(nil)
	var mu sync.Mutex
	values := map[string]string{}
	var clients sync.WaitGroup
	for client := range 4 {
		clients.Go(func() {
			for i := range 300 {
				key := strconv.Itoa(i % 3)
				if i%2 == 0 {
					end := h.Write(client, key, strconv.Itoa(client*1000+i))
					mu.Lock()
					values[key] = strconv.Itoa(client*1000 + i)
					mu.Unlock()
					end(Done)
					continue
				}
				end := h.Read(client, key)
				mu.Lock()
				v := values[key]
				mu.Unlock()
				end(v)
			}
		})
	}
	clients.Wait()
	require.Equal(t, 1200, h.Len())
	require.NoError(t, h.Check(patience, ""))
	h.Read(9, "1")("no such value")
	picture := filepath.Join(t.TempDir(), "fault.html")
	require.ErrorContains(t, h.Check(patience, picture), `record "1" is not linearizable`)
	drawn, err := os.ReadFile(picture)
	require.NoError(t, err)
	require.Contains(t, string(drawn), "no such value")
}

// TestCheckAcceptsWhatASingleCopyDoes makes histories of one copy whose answers get lost at random.
func TestCheckAcceptsWhatASingleCopyDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tick int64
		h := New(func() int64 { tick++; return tick })
		state := map[string]string{}
		for i := range rapid.IntRange(1, 60).Draw(t, "steps") {
			key := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "key")
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				h.Read(0, key)(state[key])
			case 1:
				state[key] = strconv.Itoa(i)
				h.Write(1, key, state[key])(Done)
			case 2:
				state[key] = strconv.Itoa(i)
				h.Write(2, key, state[key])(Unknown)
			case 3:
				h.Write(3, key, strconv.Itoa(i))(rapid.SampledFrom([]Outcome{Unknown, Refused}).Draw(t, "lost"))
			}
		}
		require.NoError(t, h.Check(patience, ""))
	})
}
