package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/vfs"
)

const (
	// fetchersAtOnce are the chunks of one checkpoint that are under way at the same time: they hide the way there and back.
	fetchersAtOnce = 4
	// chunkAttempts is how often a chunk is asked for before the transfer is given up, to be resumed.
	chunkAttempts = 3
	// chunkPatience bounds the wait for a chunk, which the source's pace may delay.
	chunkPatience = 30 * time.Second
	// openPatience bounds the wait for a manifest: the source reads all files for it.
	openPatience = 10 * time.Minute
)

// checkpointFetcher gets the files of replicas that this node lacks.
type checkpointFetcher struct {
	cluster string // id
	disk    vfs.FS
	peers   peers
	spare   int64 // bytes of disk that must stay free
	slots   chan struct{}
	pause   time.Duration // between attempts at a chunk
	heard   func()        // called when the source has answered; may be nil

	parallel int // chunks of one checkpoint under way at the same time
}

func newCheckpointFetcher(cluster string, disk vfs.FS, p peers, spare int64) *checkpointFetcher {
	return &checkpointFetcher{
		cluster: cluster, disk: disk, peers: p, spare: max(spare, 0), slots: make(chan struct{}, transfersAtOnce), pause: time.Second,
		parallel: fetchersAtOnce,
	}
}

// stagedReplica is a checkpoint that has come in whole.
type stagedReplica struct {
	dir      string
	manifest *engine.Manifest
	mark     checkpointMark
	number   uint64 // of the incarnation that it has become
}

// fetch gets a checkpoint of a shard, of at least entry least, from a node that has one, into the directory dir. What an
// earlier attempt left there is used again. accept looks at its place in the log before anything is transferred; nil: any
// will do. After an error the same call goes on where it was.
func (f *checkpointFetcher) fetch(ctx context.Context, from string, shard uint16, least uint64, dir string, accept func(*checkpointMark) error) (_ *stagedReplica, err error) {
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	t := &fetching{checkpointFetcher: f, from: from, shard: shard}
	defer func() { err = errs.Wrap(errs.KindOf(err), err, "fetch %s from node %s", shardName(shard), from) }()
	if err := t.open(ctx, least); err != nil {
		return nil, err
	}
	defer t.end(ctx)
	if accept != nil {
		if err := accept(&t.mark); err != nil {
			return nil, err
		}
	}
	if err := t.stage(ctx, dir); err != nil {
		return nil, err
	}
	return &stagedReplica{dir: dir, manifest: t.manifest, mark: t.mark}, nil
}

// fetching is one transfer.
type fetching struct {
	*checkpointFetcher
	from     string
	shard    uint16
	token    uint64
	mark     checkpointMark
	manifest *engine.Manifest
}

func (t *fetching) call(ctx context.Context, patience time.Duration, request, dst []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	answer, err := t.peers.call(ctx, t.from, methodCheckpoint, request, dst)
	if err == nil && t.heard != nil {
		t.heard()
	}
	return answer, err
}

func (t *fetching) open(ctx context.Context, least uint64) error {
	request := codec.AppendUvarint(codec.AppendUvarint([]byte{checkpointOpen}, uint64(t.shard)), least)
	b, err := t.call(ctx, openPatience, request, nil)
	if err != nil {
		return err
	}
	r := codec.NewReader(b)
	t.token, t.mark = r.Uint64(), readMark(r)
	if err := r.Err(); err != nil {
		return err
	}
	if t.manifest, err = engine.DecodeManifest(b[len(b)-r.Len():]); err != nil {
		return err
	}
	if want := checkpointOwner(t.cluster, t.shard); t.manifest.Owner != want {
		return errs.New(errs.Corrupt, "the checkpoint is of %q, not of %q", t.manifest.Owner, want)
	}
	if t.manifest.Applied != t.mark.applied || t.mark.index < least {
		return errs.New(errs.Corrupt, "the checkpoint ends at entry %d, %d is said of it and %d wanted", t.manifest.Applied, t.mark.applied, least)
	}
	return nil
}

// end tells the source that it need not hold the files any longer. If that gets lost, it finds out by itself.
func (t *fetching) end(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_, _ = t.peers.call(ctx, t.from, methodCheckpoint, codec.AppendUint64([]byte{checkpointClose}, t.token), nil)
}

func (t *fetching) stage(ctx context.Context, dir string) (err error) {
	st, err := engine.OpenStaging(ctx, t.disk, dir, t.manifest)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	chunks, bytes := st.Missing()
	free, err := t.disk.Free(dir)
	if err != nil {
		return err
	}
	if free < uint64(bytes)+uint64(t.spare) {
		return errs.New(errs.StorageFull, "%d bytes are to come and %d to stay free, the disk has %d", bytes, t.spare, free).
			WithHint("free space or make the disk larger")
	}
	if err := t.chunks(ctx, st, chunks); err != nil {
		return err
	}
	return st.Seal()
}

// chunks gets all that is missing, some at the same time. The first that fails ends the others.
func (t *fetching) chunks(ctx context.Context, st *engine.Staging, chunks []engine.Chunk) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(t.parallel)
	for _, c := range chunks {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return t.chunk(ctx, st, c)
		})
	}
	return g.Wait()
}

// chunk gets a chunk, if need be in several attempts.
func (t *fetching) chunk(ctx context.Context, st *engine.Staging, c engine.Chunk) (err error) {
	request := codec.AppendUint64([]byte{checkpointRead}, t.token)
	request = codec.AppendUvarint(codec.AppendUvarint(request, uint64(c.File)), uint64(c.Index))
	for attempt := range chunkAttempts {
		if attempt > 0 {
			if err := sleep(ctx, t.pause); err != nil {
				return err
			}
		}
		var b []byte
		if b, err = t.call(ctx, chunkPatience, request, make([]byte, 0, c.Len)); err == nil {
			err = st.Put(c, b)
		}
		if err == nil || errs.Is(err, errs.NotFound) || errs.Is(err, errs.StorageFull) {
			return err
		}
	}
	return err
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// install makes the checkpoint a replica's directory, which must not exist: first the raft files that belong to it, with
// the term and vote of the replica that it takes the place of, then one rename. o are the options of the group; its
// directory follows from dir. After a crash dir is there whole, or not at all.
func (r *stagedReplica) install(ctx context.Context, o groupOptions, h hardState, dir string) error {
	o.dir = raftDir(r.dir)
	if err := o.disk.RemoveAll(o.dir); err != nil { // of an attempt that was cut short
		return err
	}
	if err := r.mark.write(o, h); err != nil {
		return fmt.Errorf("write the raft files of %s: %w", o.name, err)
	}
	return engine.InstallCheckpoint(ctx, o.disk, r.dir, dir, r.manifest)
}

// stagingSuffix ends the name of a directory that is not a replica's yet.
const stagingSuffix = ".staged"

// incarnations lists the replicas of a shard in a data directory, oldest first. Only the last one counts: it came to its
// place by one rename, and those before it are what it took the place of.
func incarnations(disk vfs.FS, data string, id uint16) (found []uint64, err error) {
	dir := filepath.Dir(shardDir(data, id, 0))
	if there, err := existsDir(disk, dir); err != nil || !there {
		return nil, err
	}
	names, err := disk.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if n, err := strconv.ParseUint(name, 10, 64); err == nil && strconv.FormatUint(n, 10) == name {
			found = append(found, n)
		}
	}
	slices.Sort(found)
	return found, nil
}

func existsDir(disk vfs.FS, dir string) (bool, error) {
	info, err := disk.Stat(dir)
	if isMissing(err) {
		return false, nil
	}
	return err == nil && info.Dir, err
}

func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// currentIncarnation is the replica of a shard that counts: 1 if there is none yet.
func currentIncarnation(disk vfs.FS, data string, id uint16) (uint64, error) {
	found, err := incarnations(disk, data, id)
	if err != nil || len(found) == 0 {
		return 1, err
	}
	return found[len(found)-1], nil
}

// removeOldIncarnations removes what is left of the replicas before the current one, and what was staged for their
// places. What is staged for the next one stays: a transfer goes on with it.
func removeOldIncarnations(disk vfs.FS, data string, id uint16, current uint64) error {
	dir := filepath.Dir(shardDir(data, id, 0))
	names, err := disk.ReadDir(dir)
	if isMissing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		number, suffix, _ := strings.Cut(name, ".")
		n, err := strconv.ParseUint(number, 10, 64)
		if err != nil || n > current || n == current && suffix == "" {
			continue
		}
		if err := disk.RemoveAll(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return disk.SyncDir(dir)
}

// stagingDir is where the checkpoint is collected that becomes an incarnation.
func stagingDir(data string, id uint16, incarnation uint64) string {
	return shardDir(data, id, incarnation) + stagingSuffix
}
