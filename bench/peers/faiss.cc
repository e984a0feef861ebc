// faiss behind shim.h. Vectors to be compared by cosine come as unit vectors.
#if !__has_include(<faiss/IndexHNSW.h>)
#error "faiss is missing: apt-get install the packages in packages.txt, or build without the C++ peers: CGO_ENABLED=0"
#endif
#include <faiss/IndexHNSW.h>
#include <faiss/impl/AuxIndexStructures.h>
#include <faiss/impl/DistanceComputer.h>
#include <faiss/index_io.h>
#include <faiss/utils/Heap.h>
#include <omp.h>

#include <memory>
#include <stdexcept>
#include <vector>

#include "shim.h"

namespace {

// Negated turns inner products into distances, as IndexHNSW does inside.
struct Negated : faiss::DistanceComputer {
	std::unique_ptr<faiss::DistanceComputer> inner;
	explicit Negated(faiss::DistanceComputer *d) : inner(d) {}
	void set_query(const float *x) override { inner->set_query(x); }
	float operator()(idx_t i) override { return -(*inner)(i); }
	float symmetric_dis(idx_t i, idx_t j) override { return -inner->symmetric_dis(i, j); }
};

// Searcher does what IndexHNSW::search does for one query, and keeps the table of visited nodes between queries: to
// allocate and clear it each time costs one byte per vector indexed.
struct Searcher : peer_searcher {
	const faiss::IndexHNSW &index;
	faiss::VisitedTable visited;
	std::unique_ptr<faiss::DistanceComputer> distance;
	std::vector<faiss::Index::idx_t> labels;
	std::vector<float> distances;

	explicit Searcher(const faiss::IndexHNSW &x) : index(x), visited(x.ntotal) {
		distance.reset(x.storage->get_distance_computer());
		if (x.metric_type == faiss::METRIC_INNER_PRODUCT) distance.reset(new Negated(distance.release()));
	}

	int search(const float *query, int k, uint32_t *ids) override {
		labels.resize(k);
		distances.resize(k);
		faiss::maxheap_heapify(k, distances.data(), labels.data());
		distance->set_query(query);
		index.hnsw.search(*distance, k, labels.data(), distances.data(), visited);
		faiss::maxheap_reorder(k, distances.data(), labels.data());
		int n = 0;
		for (auto label : labels)
			if (label >= 0) ids[n++] = label;
		return n;
	}
};

struct Index : peer_index {
	std::unique_ptr<faiss::IndexHNSW> hnsw;
	explicit Index(faiss::IndexHNSW *x) : hnsw(x) {}
	void save(const char *path) override { faiss::write_index(hnsw.get(), path); }
	peer_searcher *searcher(int ef) override {
		hnsw->hnsw.efSearch = ef;  // parameters given with a search would be ignored in part by faiss 1.7.3
		return new Searcher(*hnsw);
	}
};

faiss::MetricType metric_of(const peer_params &p) {
	return p.metric == METRIC_IS_L2 ? faiss::METRIC_L2 : faiss::METRIC_INNER_PRODUCT;
}

// build trains and fills an index in one batch, which is how faiss builds fastest.
template <typename Make>
peer_index *build(const peer_params &p, const float *rows, size_t n, char *fault, Make make) {
	return guarded(fault, (peer_index *)nullptr, [&]() -> peer_index * {
		omp_set_num_threads(p.threads);
		std::unique_ptr<Index> index(new Index(make()));
		index->hnsw->hnsw.efConstruction = p.ef_construction;
		index->hnsw->train(n, rows);
		index->hnsw->add(n, rows);
		return index.release();
	});
}

}  // namespace

extern "C" {

peer_index *faiss_flat_build(peer_params p, const float *rows, size_t n, char *fault) {
	return build(p, rows, n, fault, [&] { return new faiss::IndexHNSWFlat(p.dim, p.m, metric_of(p)); });
}

peer_index *faiss_sq8_build(peer_params p, const float *rows, size_t n, char *fault) {
	return build(p, rows, n, fault, [&] {
		return new faiss::IndexHNSWSQ(p.dim, faiss::ScalarQuantizer::QT_8bit, p.m, metric_of(p));
	});
}

peer_index *faiss_open(peer_params p, const char *path, char *fault) {
	return guarded(fault, (peer_index *)nullptr, [&]() -> peer_index * {
		std::unique_ptr<faiss::Index> index(faiss::read_index(path));
		auto *hnsw = dynamic_cast<faiss::IndexHNSW *>(index.get());
		if (!hnsw || hnsw->d != p.dim) throw std::runtime_error("the file holds another index");
		index.release();
		return new Index(hnsw);
	});
}

#define TEXT(x) #x
#define TEXT_OF(x) TEXT(x)
const char *faiss_version(void) {
	return TEXT_OF(FAISS_VERSION_MAJOR) "." TEXT_OF(FAISS_VERSION_MINOR) "." TEXT_OF(FAISS_VERSION_PATCH);
}
}
