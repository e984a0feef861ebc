package api

import (
	"net/http"
	"strings"

	"github.com/croftdb/croft/cluster"
)

// page is an answer of somebody else's http.Handler, kept until it is whole: what that handler holds while it writes
// must not wait for a client that does not read.
type page struct {
	header http.Header
	code   int
	body   []byte
}

func (p *page) Header() http.Header         { return p.header }
func (p *page) WriteHeader(code int)        { p.code = code }
func (p *page) Write(b []byte) (int, error) { p.body = append(p.body, b...); return len(b), nil }

// appendJSON makes it a reply; finish sends it as it is, of whatever type.
func (p *page) appendJSON(b []byte) ([]byte, error) { return append(b, p.body...), nil }

func metrics(c *call) (reply, error) {
	p := &page{header: c.w.Header(), code: http.StatusOK}
	c.h.promReg.ServeHTTP(p, c.r)
	return p, nil
}

// live tells that the process answers, nothing more.
func live(*call) (reply, error) {
	return document{map[string]string{"status": "ok"}}, nil
}

type readiness struct {
	Status string       `json:"status"`
	Checks []checkShown `json:"checks,omitempty"`
}

type checkShown struct {
	Name  string `json:"name"`
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`
}

func (r readiness) appendJSON(b []byte) ([]byte, error) { return document{r}.appendJSON(b) }

func (r readiness) status() int {
	if r.Status == "ready" {
		return http.StatusOK
	}
	return http.StatusServiceUnavailable
}

// ready lists the checks that fail; with ?verbose, the others too. ?noleader passes over elections, for those who ask
// whether a process may stay and not whether it can serve.
func ready(c *call) (reply, error) {
	_, verbose := c.params["verbose"]
	_, noLeader := c.params["noleader"]
	r := readiness{Status: "ready"}
	for _, check := range c.h.node.Ready() {
		if noLeader && strings.HasSuffix(check.Name, " leader") {
			continue
		}
		shown := checkShown{Name: check.Name, OK: check.Err == nil}
		if check.Err != nil {
			r.Status, shown.Error = "not ready", check.Err.Error()
			c.w.Header().Set("Retry-After", "1")
		}
		if verbose || check.Err != nil {
			r.Checks = append(r.Checks, shown)
		}
	}
	return r, nil
}

type clusterShown struct {
	ClusterID string       `json:"cluster_id"`
	Version   string       `json:"version"`
	Nodes     []nodeShown  `json:"nodes"`
	Shards    []shardShown `json:"shards"`
}

type nodeShown struct {
	ID     string `json:"id"`
	State  string `json:"state"`
	Shards int    `json:"shards"`
}

type shardShown struct {
	ID            int    `json:"id"`
	Leader        string `json:"leader"`
	State         string `json:"state"`
	Tenants       int    `json:"tenants"`
	Partitions    int    `json:"partitions"`
	Loaded        int    `json:"partitions_loaded"`
	Records       uint64 `json:"records"`
	Indexed       uint64 `json:"indexed"`
	Bytes         uint64 `json:"bytes"`
	Segments      int    `json:"segments"`
	SegmentBytes  uint64 `json:"segment_bytes"`
	ResidentBytes uint64 `json:"resident_bytes"`
	BufferBytes   uint64 `json:"buffer_bytes"`
	AppliedIndex  uint64 `json:"applied_index"`
	FlushedIndex  uint64 `json:"flushed_index"`
}

func clusterInfo(c *call) (reply, error) {
	info := c.h.node.Info(c.r.Context())
	node := nodeShown{ID: info.NodeID, State: "ready", Shards: len(info.Shards)}
	for _, check := range c.h.node.Ready() {
		if check.Err != nil {
			node.State = "not ready"
		}
	}
	return document{clusterShown{
		ClusterID: info.ClusterID, Version: c.h.opts.Version,
		Nodes: []nodeShown{node}, Shards: showShards(info.Shards),
	}}, nil
}

func shards(c *call) (reply, error) {
	return document{map[string]any{"shards": showShards(c.h.node.Info(c.r.Context()).Shards)}}, nil
}

func showShards(infos []cluster.ShardInfo) []shardShown {
	shown := make([]shardShown, len(infos))
	for i, s := range infos {
		shown[i] = shardShown{
			ID: s.ID, Leader: s.Leader, State: s.State, Tenants: s.Tenants,
			Partitions: s.Stats.Partitions, Loaded: s.Stats.Loaded, Records: s.Stats.Records,
			Indexed: s.Stats.Indexed, Bytes: s.Stats.Bytes,
			Segments: s.Stats.Segments, SegmentBytes: s.Stats.SegmentBytes, ResidentBytes: s.Stats.ResidentBytes,
			BufferBytes: s.Stats.BufferBytes, AppliedIndex: s.Stats.AppliedIndex, FlushedIndex: s.Stats.FlushedIndex,
		}
	}
	return shown
}
