//go:build unix

package main

import (
	"log/slog"

	"golang.org/x/sys/unix"
)

// wantedFiles is the number of open files that a busy node may need: 10,000 connections, and the segments and logs of
// its shards.
const wantedFiles = 16384

// raiseFileLimit lifts the soft limit of open files to the hard one. Go does so by itself, but for children only
// what was set here counts, and a low hard limit should be told before it hurts.
func raiseFileLimit(log *slog.Logger) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		log.Warn("limit of open files is not known", "err", err)
		return
	}
	limit.Cur = limit.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		log.Warn("limit of open files stays as it is", "err", err)
	}
	if limit.Max < wantedFiles {
		log.Warn("limit of open files is low", "limit", limit.Max, "wanted", wantedFiles)
	}
}

// freeDisk is the space left for this user on the disk of dir, in bytes.
func freeDisk(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}
