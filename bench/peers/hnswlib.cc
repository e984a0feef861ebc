// hnswlib behind shim.h. Vectors to be compared by cosine come as unit vectors, with the metric of inner products.
#if !__has_include(<hnswlib/hnswlib.h>)
#error "hnswlib is missing: apt-get install the packages in packages.txt, or build without the C++ peers: CGO_ENABLED=0"
#endif
#include <hnswlib/hnswlib.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <thread>

#include "shim.h"

namespace {

typedef hnswlib::HierarchicalNSW<float> Graph;

struct Searcher : peer_searcher {
	const Graph &graph;
	explicit Searcher(const Graph &g) : graph(g) {}

	int search(const float *query, int k, uint32_t *ids) override {
		auto found = graph.searchKnn(query, k);  // the farthest on top
		int n = found.size();
		for (int i = n - 1; i >= 0; i--, found.pop()) ids[i] = found.top().second;
		return n;
	}
};

struct Index : peer_index {
	std::unique_ptr<hnswlib::SpaceInterface<float>> space;
	std::unique_ptr<Graph> graph;

	explicit Index(const peer_params &p) {
		if (p.metric == METRIC_IS_L2)
			space.reset(new hnswlib::L2Space(p.dim));
		else
			space.reset(new hnswlib::InnerProductSpace(p.dim));
	}

	void save(const char *path) override { graph->saveIndex(path); }

	peer_searcher *searcher(int ef) override {
		graph->setEf(ef);
		return new Searcher(*graph);
	}
};

// Adder adds rows from several threads; the first failure stops all.
struct Adder {
	Graph &graph;
	const float *rows;
	size_t n, dim;
	std::atomic<size_t> next{0};
	std::atomic<bool> failed{false};
	std::string fault;

	void run() {
		try {
			for (size_t i; !failed && (i = next++) < n;) graph.addPoint(rows + i * dim, i);
		} catch (const std::exception &e) {
			if (!failed.exchange(true)) fault = e.what();
		}
	}

	void run(int threads) {
		std::vector<std::thread> pool;
		for (int i = 0; i < threads; i++) pool.emplace_back([this] { run(); });
		for (auto &t : pool) t.join();
		if (failed) throw std::runtime_error(fault);
	}
};

}  // namespace

extern "C" {

peer_index *hnswlib_build(peer_params p, const float *rows, size_t n, char *fault) {
	return guarded(fault, (peer_index *)nullptr, [&]() -> peer_index * {
		std::unique_ptr<Index> index(new Index(p));
		index->graph.reset(new Graph(index->space.get(), n, p.m, p.ef_construction));
		Adder adder{*index->graph, rows, n, size_t(p.dim)};
		adder.run(p.threads);
		return index.release();
	});
}

peer_index *hnswlib_open(peer_params p, const char *path, char *fault) {
	return guarded(fault, (peer_index *)nullptr, [&]() -> peer_index * {
		std::unique_ptr<Index> index(new Index(p));
		index->graph.reset(new Graph(index->space.get(), path));
		return index.release();
	});
}
}
