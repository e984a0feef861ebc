// A C interface to the C++ libraries, the same for each, so that Go can call them. Functions that can fail return NULL
// or -1 and write why into fault, of FAULT_SIZE bytes. Exceptions never cross it.
#ifndef CROFT_PEERS_SHIM_H
#define CROFT_PEERS_SHIM_H

#include <stddef.h>
#include <stdint.h>

enum { FAULT_SIZE = 256 };
enum { METRIC_IS_L2, METRIC_IS_IP };

typedef struct {
	int metric;
	int dim;
	int m;
	int ef_construction;
	int threads;  // that build
} peer_params;

#ifdef __cplusplus
// What each library implements. A searcher is for one thread; several may search one index at once.
struct peer_searcher {
	virtual int search(const float *query, int k, uint32_t *ids) = 0;
	virtual ~peer_searcher() {}
};

struct peer_index {
	virtual void save(const char *path) = 0;
	virtual peer_searcher *searcher(int ef) = 0;
	virtual ~peer_index() {}
};

extern "C" {
#else
typedef struct peer_searcher peer_searcher;
typedef struct peer_index peer_index;
#endif

// Builds index n rows of dim floats each, one behind the other; row number = id.
peer_index *hnswlib_build(peer_params p, const float *rows, size_t n, char *fault);
peer_index *hnswlib_open(peer_params p, const char *path, char *fault);
peer_index *faiss_flat_build(peer_params p, const float *rows, size_t n, char *fault);
peer_index *faiss_sq8_build(peer_params p, const float *rows, size_t n, char *fault);
peer_index *faiss_open(peer_params p, const char *path, char *fault);

int peer_save(peer_index *index, const char *path, char *fault);
void peer_close(peer_index *index);

// Makes a searcher. ef holds for all searchers of the index from now on, so none may be searching.
peer_searcher *peer_searcher_new(peer_index *index, int ef, char *fault);
void peer_searcher_free(peer_searcher *searcher);

// Writes the ids of the up to k nearest, nearest first, and returns how many; -1 if the library failed.
int peer_search(peer_searcher *searcher, const float *query, int k, uint32_t *ids);

const char *faiss_version(void);
const char *compiler_version(void);

#ifdef __cplusplus
}

#include <exception>
#include <stdio.h>

// guarded runs f and turns an exception into a fault and otherwise.
template <typename F, typename R>
R guarded(char *fault, R otherwise, F f) {
	try {
		return f();
	} catch (const std::exception &e) {
		snprintf(fault, FAULT_SIZE, "%s", e.what());
	} catch (...) {
		snprintf(fault, FAULT_SIZE, "unknown exception");
	}
	return otherwise;
}
#endif
#endif
