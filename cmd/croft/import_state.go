package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/go-json-experiment/json"
)

// importState is how far an import has come: all rows before Row are stored or in the file of rejects. It is written
// now and then, so that an import which was killed goes on from there; rows sent after it was last written are sent
// again, which changes nothing.
type importState struct {
	Input        fileIdentity `json:"input"`
	Target       importTarget `json:"target"`
	Row          int64        `json:"row"`    // the next one
	Offset       int64        `json:"offset"` // of the next one
	Stored       int64        `json:"stored"`
	Rejected     int64        `json:"rejected"`
	RejectsBytes int64        `json:"rejects_bytes"` // length of the file of rejects
	LastID       string       `json:"last_id"`       // a record that must be there
}

// fileIdentity tells whether a file is still the one that was begun with.
type fileIdentity struct {
	Path     string    `json:"path"`
	Size     int64     `json:"size"`
	Modified time.Time `json:"modified"`
	Head     string    `json:"head_sha256"` // of its first 64 KiB
}

func (f fileIdentity) same(g fileIdentity) bool {
	return f.Path == g.Path && f.Size == g.Size && f.Modified.Equal(g.Modified) && f.Head == g.Head
}

// importTarget is where the rows go.
type importTarget struct {
	URL       string `json:"url"`
	Index     string `json:"index"`
	Namespace string `json:"namespace"`
	IDPrefix  string `json:"id_prefix"`
}

func identify(f *os.File) (fileIdentity, error) {
	path, err := filepath.Abs(f.Name())
	if err != nil {
		return fileIdentity{}, err
	}
	info, err := f.Stat()
	if err != nil {
		return fileIdentity{}, err
	}
	if !info.Mode().IsRegular() {
		return fileIdentity{}, fmt.Errorf("%s is not a regular file", f.Name())
	}
	head := sha256.New()
	if _, err := io.Copy(head, io.NewSectionReader(f, 0, 64<<10)); err != nil {
		return fileIdentity{}, err
	}
	return fileIdentity{Path: path, Size: info.Size(), Modified: info.ModTime(), Head: hex.EncodeToString(head.Sum(nil))}, nil
}

// stateHome is $XDG_STATE_HOME, or what stands for it.
func (a *app) stateHome() (string, error) {
	if dir := a.getenv("XDG_STATE_HOME"); dir != "" {
		return dir, nil
	}
	home := a.getenv("HOME")
	if home == "" {
		return "", errors.New("neither XDG_STATE_HOME nor HOME is set: there is no place to note things in")
	}
	return filepath.Join(home, ".local", "state"), nil
}

// statePath is $XDG_STATE_HOME/croft/import/<hash of input and target>.json: inputs are often kept where nothing can
// be written beside them.
func (a *app) statePath(input string, target importTarget) (string, error) {
	dir, err := a.stateHome()
	if err != nil {
		return "", err
	}
	key, err := json.Marshal([]any{input, target})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(key)
	return filepath.Join(dir, "croft", "import", hex.EncodeToString(sum[:12])+".json"), nil
}

// loadState returns the state of an earlier run; ok tells whether there was one.
func loadState(path string) (s importState, ok bool, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, false, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		return s, false, fmt.Errorf("read state of the earlier import: %w", err)
	}
	return s, true, nil
}

func (s *importState) save(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("save import state: %w", err)
	}
	b, err := json.Marshal(s)
	if err == nil {
		err = writeFileAtomically(path, b, 0o600)
	}
	if err != nil {
		return fmt.Errorf("save import state: %w", err)
	}
	return nil
}

// reject is a row that was not stored.
type reject struct {
	Row    int64  `json:"row"` // from 0
	ID     string `json:"id,omitzero"`
	Reason string `json:"reason"`
}

// rejectFile lists rejects in order of row. It comes into being with the first one.
type rejectFile struct {
	path string
	f    *os.File
	size int64
}

// openRejects goes on behind the first size bytes of an earlier run's file, or starts anew.
func openRejects(path string, size int64) (*rejectFile, error) {
	r := &rejectFile{path: path, size: size}
	if size == 0 {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("remove old rejects: %w", err)
		}
		return r, nil
	}
	if err := r.open(); err != nil {
		return nil, err
	}
	if err := r.f.Truncate(size); err != nil {
		return nil, fmt.Errorf("truncate rejects: %w", err)
	}
	return r, nil
}

func (r *rejectFile) open() (err error) {
	r.f, err = os.OpenFile(r.path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return usagef("list rejects: %w", err).withHint("name another file with --rejects")
	}
	return nil
}

func (r *rejectFile) add(rejects []reject) error {
	if len(rejects) == 0 {
		return nil
	}
	if r.f == nil {
		if err := r.open(); err != nil {
			return err
		}
	}
	var b []byte
	for _, rej := range rejects {
		line, err := json.Marshal(rej)
		if err != nil {
			return fmt.Errorf("list rejects: %w", err)
		}
		b = append(append(b, line...), '\n')
	}
	n, err := r.f.WriteAt(b, r.size)
	r.size += int64(n)
	return err
}

func (r *rejectFile) sync() error {
	if r.f == nil {
		return nil
	}
	return r.f.Sync()
}

func (r *rejectFile) Close() error {
	if r.f == nil {
		return nil
	}
	return r.f.Close()
}
