package store

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"syscall"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/croftdb/croft/internal/errs"
)

// Bolt is the durable KV: one bbolt file.
type Bolt struct {
	path   string
	db     *bolt.DB
	schema *schema
	poison atomic.Pointer[errs.Error]
	commit func(*bolt.Tx) error // (*bolt.Tx).Commit; tests put failures here
}

var _ KV = (*Bolt)(nil)

// Open opens the store in the file at path, creating it (mode 0600) if there is none. Kind Unavailable if another
// process holds it, Corrupt if the file's pages are damaged; it reads the whole file, as bbolt does to find its free pages.
func Open(path string, o Options) (*Bolt, error) {
	o, err := o.prepared()
	if err != nil {
		return nil, err
	}
	if err := create(path); err != nil {
		return nil, wrapOpen(path, err)
	}
	if err := preflight(path, o); err != nil {
		return nil, wrapOpen(path, err)
	}
	db, err := openBolt(path, o)
	if err != nil {
		return nil, wrapOpen(path, err)
	}
	s := &Bolt{path: path, db: db, schema: newSchema(o.Buckets), commit: (*bolt.Tx).Commit}
	if err := s.makeBuckets(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// preflight checks the pages under bbolt's shared lock. Opened for reading, bbolt looks at the meta pages alone.
func preflight(path string, o Options) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close() // opened for reading: nothing to lose
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if info.Size() < 4*4096 { // create never leaves so little, and an empty file bbolt would try to fill
		return errs.New(errs.Corrupt, "file is cut short: %d bytes", info.Size())
	}
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, Timeout: o.LockTimeout, NoStatistics: true})
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()        // opened for reading: nothing to lose
	if info, err = file.Stat(); err != nil { // now that nobody makes it grow
		return err
	}
	return checkPages(file, info.Size(), db.Info().PageSize)
}

func openBolt(path string, o Options) (db *bolt.DB, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer recoverDamage(&err)
	db, err = bolt.Open(path, 0o600, &bolt.Options{
		Timeout:         o.LockTimeout,
		NoFreelistSync:  true, // commits stay small; and a list on disk has no checksum, one rebuilt needs none
		FreelistType:    bolt.FreelistMapType,
		PreLoadFreelist: true,
		InitialMmapSize: o.MapBytes,
		NoStatistics:    true,
	})
	if err != nil {
		return nil, err
	}
	db.AllocSize = o.GrowBytes
	return db, nil
}

// create makes an empty store under another name and links it to path, so that a power cut leaves either no file or a
// whole one: bbolt refuses for ever a file whose first pages were cut short, and does not sync the directory. A link,
// unlike a rename, can't replace a store that another process made meanwhile.
func create(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	temp := path + ".new"
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	db, err := bolt.Open(temp, 0o600, &bolt.Options{NoFreelistSync: true, NoStatistics: true})
	if err != nil {
		return err
	}
	if err := db.Close(); err != nil { // bolt.Open has synced the first pages
		return err
	}
	if err := os.Link(temp, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := os.Remove(temp); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func wrapOpen(path string, err error) error {
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return errs.New(errs.Unavailable, "open store %s: another process has it open", path).
			WithHint("stop the other process that uses this data directory, or choose another directory")
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrVersionMismatch),
		errors.Is(err, bolterrors.ErrChecksum), errs.Is(err, errs.Corrupt):
		return errs.Wrap(errs.Corrupt, err, "open store %s", path)
	case fullDisk(err):
		return errs.Wrap(errs.StorageFull, err, "open store %s", path)
	}
	return errs.Wrap(errs.Internal, err, "open store %s", path)
}

// fullDisk also looks at the text, since bbolt drops the cause when growing the file fails.
func fullDisk(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) ||
		strings.Contains(err.Error(), syscall.ENOSPC.Error())
}

// makeBuckets creates what is missing, and writes nothing if nothing is.
func (s *Bolt) makeBuckets() error {
	missing := false
	err := s.inTx(false, func(t *bolt.Tx) error {
		for _, name := range s.schema.names {
			missing = missing || t.Bucket([]byte(name)) == nil
		}
		return nil
	})
	if err != nil || !missing {
		return err
	}
	return s.inTx(true, func(t *bolt.Tx) (err error) {
		defer recoverDamage(&err)
		for _, name := range s.schema.names {
			if _, err := t.CreateBucketIfNotExists([]byte(name)); err != nil {
				return errs.Wrap(errs.Internal, err, "create store bucket %s", name)
			}
		}
		return nil
	})
}

// View implements KV.
func (s *Bolt) View(fn func(Tx) error) error {
	return s.inTx(false, func(bt *bolt.Tx) error {
		t := tx{schema: s.schema, raw: &boltTx{tx: bt, names: s.schema.names}}
		defer func() { t.over = true }()
		return fn(&t)
	})
}

// Update implements KV.
func (s *Bolt) Update(fn func(RW) error) error {
	return s.inTx(true, func(bt *bolt.Tx) error {
		t := tx{schema: s.schema, raw: &boltTx{tx: bt, names: s.schema.names}}
		defer func() { t.over = true }()
		return fn(&t)
	})
}

// inTx runs fn in a transaction and commits a writable one. Faults of the mapping become panics meanwhile, which the
// guarded calls into bbolt turn into errors; a panic of fn itself goes on to the caller after the rollback.
func (s *Bolt) inTx(write bool, fn func(*bolt.Tx) error) error {
	if err := s.refusal(); err != nil {
		return err
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	bt, err := s.begin(write)
	if err != nil {
		return err
	}
	defer bt.Rollback() // reports only that the transaction was committed
	if write {
		if err := s.refusal(); err != nil { // the writer before us may have failed
			return err
		}
	}
	if err := fn(bt); err != nil || !write {
		return err
	}
	return s.commitOrPoison(bt)
}

func (s *Bolt) begin(write bool) (bt *bolt.Tx, err error) {
	bt, err = s.db.Begin(write)
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		return nil, errs.New(errs.Unavailable, "store %s is closed", s.path)
	}
	return bt, errs.Wrap(errs.Internal, err, "begin transaction of store %s", s.path)
}

func (s *Bolt) commitOrPoison(bt *bolt.Tx) error {
	err := s.guardedCommit(bt)
	if err == nil {
		return nil
	}
	kind := errs.OutcomeUnknown
	if fullDisk(err) {
		kind = errs.StorageFull
	}
	s.poison.CompareAndSwap(nil, poisoned("store "+s.path, err))
	return errs.New(kind, "commit to store %s: %w", s.path, err).WithHint(poisonHint)
}

func (s *Bolt) guardedCommit(bt *bolt.Tx) (err error) {
	defer recoverDamage(&err)
	return s.commit(bt)
}

func (s *Bolt) refusal() error {
	if e := s.poison.Load(); e != nil {
		return e
	}
	return nil
}

// Size implements KV.
func (s *Bolt) Size() (n int64) {
	bt, err := s.db.Begin(false)
	if err != nil {
		return 0
	}
	defer bt.Rollback()
	return bt.Size()
}

// Close implements KV.
func (s *Bolt) Close() error {
	return errs.Wrap(errs.Internal, s.db.Close(), "close store %s", s.path)
}

// recoverDamage turns a panic out of bbolt into an error: an assertion, an index or a fault of the mapping, all of
// which mean a damaged or truncated file.
func recoverDamage(err *error) {
	if r := recover(); r != nil {
		*err = errs.New(errs.Corrupt, "damaged page: %v", r)
	}
}

// boltTx is the raw transaction on bbolt. Each call into bbolt is guarded by itself, so that a panic of the caller's
// code is never taken for damage.
type boltTx struct {
	tx      *bolt.Tx
	names   []string
	buckets [MaxBuckets]*bolt.Bucket
}

func (t *boltTx) bucket(b Bucket) (bk *bolt.Bucket, err error) {
	if bk = t.buckets[b]; bk != nil {
		return bk, nil
	}
	if bk = t.tx.Bucket([]byte(t.names[b])); bk == nil {
		return nil, errs.New(errs.Corrupt, "store bucket %s is gone", t.names[b])
	}
	t.buckets[b] = bk
	return bk, nil
}

// guard completes err with the bucket's name and recovers from damage.
func (t *boltTx) guard(b Bucket, err *error) {
	if r := recover(); r != nil {
		*err = errs.New(errs.Corrupt, "store bucket %s: damaged page: %v", t.names[b], r)
	}
}

func (t *boltTx) get(b Bucket, key []byte) (v []byte, err error) {
	defer t.guard(b, &err)
	bk, err := t.bucket(b)
	if err != nil {
		return nil, err
	}
	return bk.Get(key), nil
}

func (t *boltTx) put(b Bucket, key, sealed []byte) (err error) {
	defer t.guard(b, &err)
	bk, err := t.bucket(b)
	if err != nil {
		return err
	}
	return errs.Wrap(errs.Internal, bk.Put(key, sealed), "store bucket %s: put", t.names[b])
}

func (t *boltTx) delete(b Bucket, key []byte) (err error) {
	defer t.guard(b, &err)
	bk, err := t.bucket(b)
	if err != nil {
		return err
	}
	return errs.Wrap(errs.Internal, bk.Delete(key), "store bucket %s: delete", t.names[b])
}

func (t *boltTx) ascend(b Bucket, from []byte, fn func(k, sealed []byte) (bool, error)) error {
	c, k, v, err := t.seek(b, from)
	for err == nil && k != nil {
		var more bool
		if more, err = fn(k, v); !more || err != nil {
			return err
		}
		k, v, err = t.next(b, c)
	}
	return err
}

// copyTo reads the file, not the mapping, so that a damaged disk gives an error and no fault.
func (t *boltTx) copyTo(w io.Writer) error {
	_, err := t.tx.WriteTo(w)
	return errs.Wrap(errs.Internal, err, "copy store")
}

func (t *boltTx) seek(b Bucket, from []byte) (c *bolt.Cursor, k, v []byte, err error) {
	defer t.guard(b, &err)
	bk, err := t.bucket(b)
	if err != nil {
		return nil, nil, nil, err
	}
	c = bk.Cursor()
	k, v = c.Seek(from)
	return c, k, v, nil
}

func (t *boltTx) next(b Bucket, c *bolt.Cursor) (k, v []byte, err error) {
	defer t.guard(b, &err)
	k, v = c.Next()
	return k, v, nil
}
