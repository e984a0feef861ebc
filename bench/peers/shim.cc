// The part of the interface that is the same for each library.
#include "shim.h"

extern "C" {

int peer_save(peer_index *index, const char *path, char *fault) {
	return guarded(fault, -1, [&] {
		index->save(path);
		return 0;
	});
}

void peer_close(peer_index *index) { delete index; }

peer_searcher *peer_searcher_new(peer_index *index, int ef, char *fault) {
	return guarded(fault, (peer_searcher *)nullptr, [&] { return index->searcher(ef); });
}

void peer_searcher_free(peer_searcher *searcher) { delete searcher; }

int peer_search(peer_searcher *searcher, const float *query, int k, uint32_t *ids) {
	try {
		return searcher->search(query, k, ids);
	} catch (...) {
		return -1;
	}
}

const char *compiler_version(void) { return "g++ " __VERSION__; }
}
