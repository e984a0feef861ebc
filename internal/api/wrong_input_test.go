package api

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// wrongIndexes are what the table below is sent to.
func wrongIndexes(c *client) {
	c.index("cos", `"dimension":3`)
	c.index("dot", `"dimension":2,"metric":"dotproduct"`)
	c.index("sp", `"vector_type":"sparse"`)
	c.index("locked", `"dimension":1,"deletion_protection":"enabled"`)
	c.ok("POST", "/indexes", `{"name":"pods","dimension":1,"spec":{"pod":{"environment":"us-east-1-aws","pod_type":"p1.x2","replicas":2}}}`)
}

func rec(fields string) string { return `{"vectors":[{"id":"ok","values":[1,2,3]},{` + fields + `}]}` }

func TestWrongInput(t *testing.T) {
	c := newClient(t)
	wrongIndexes(c)
	nines := strings.TrimSuffix(strings.Repeat("9,", 20_001), ",")
	ids := func(n int) string {
		return strings.TrimSuffix(strings.Repeat(`"a",`, n), ",")
	}
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "%d,", i)
		}
		return strings.TrimSuffix(b.String(), ",")
	}
	up, q := "POST /i/cos/vectors/upsert", "POST /i/cos/query"
	for _, w := range []struct {
		route, body string
		status      int
		parts       string // of the message, separated by |
	}{
		// The body as a whole.
		{up, ``, 400, "the body is empty"},
		{up, ` `, 400, "not valid JSON"},
		{up, `{`, 400, "not valid JSON"},
		{up, `[]`, 400, "want an object, got []"},
		{up, `null`, 400, "want an object, got null"},
		{up, `{"vectors":[]} x`, 400, "not valid JSON"},
		{up, `{"vectors":[]}{}`, 400, "byte 15"},
		{up, `{"vectors":[],}`, 400, "not valid JSON"},
		{up, "{\"vectors\":[{\"id\":\"\xff\",\"values\":[1,2,3]}]}", 400, "UTF-8"},
		{up, `{"vectors":[{"id":"\ud800","values":[1,2,3]}]}`, 400, "not valid JSON|surrogate"},
		{up, "\xef\xbb\xbf{}", 400, "not valid JSON"},
		{up, `{"vectors":[],"vectors":[]}`, 400, `duplicate|"vectors"`},
		{up, `{"namespace":"a","n\u0061mespace":"b"}`, 400, `duplicate|"namespace"`},
		{up, `{"Vectors":[]}`, 400, `unknown field "Vectors"; did you mean "vectors"?`},
		{up, `{"vectors":[],"NameSpace":"x"}`, 400, `unknown field "NameSpace"; did you mean "namespace"?`},
		{up, `{"vektors":[]}`, 400, `unknown field "vektors"; did you mean "vectors"?`},
		{up, `{"entirelyElse":1}`, 400, `unknown field "entirelyElse"; known are vectors, namespace`},
		{up, strings.Repeat(`[`, 20_000), 400, "depth"},
		{up, `{"vectors":` + strings.Repeat(`[`, 5000) + strings.Repeat(`]`, 5000) + `}`, 400, "vectors[0]: want an object"},

		// Upserts.
		{up, `{}`, 400, "vectors: at least one record"},
		{up, `{"vectors":[]}`, 400, "vectors: at least one record"},
		{up, `{"vectors":null}`, 400, "vectors: at least one record"},
		{up, `{"vectors":{}}`, 400, "vectors: want an array, got {}"},
		{up, `{"vectors":[7]}`, 400, "vectors[0]: want an object, got 7"},
		{up, `{"vectors":[` + strings.TrimSuffix(strings.Repeat(`{"id":"a","values":[1,2,3]},`, 1001), ",") + `]}`, 400, "vectors[1000]: more than 1000 records"},
		{up, rec(`"values":[1,2,3]`), 400, "vectors[1].id: is missing"},
		{up, rec(`"id":"","values":[1,2,3]`), 400, "vectors[1].id: is missing or empty"},
		{up, rec(`"id":7,"values":[1,2,3]`), 400, "vectors[1].id: want a string, got 7"},
		{up, rec(`"id":"é","values":[1,2,3]`), 400, "vectors[1].id|0xc3"},
		{up, rec(`"id":"\u0000","values":[1,2,3]`), 400, "vectors[1].id|0x00"},
		{up, rec(`"id":"` + strings.Repeat("x", 513) + `","values":[1,2,3]`), 400, "vectors[1].id: has 513 bytes, at most 512"},
		{up, rec(`"id":"r7"`), 400, `vectors[1].values: Vector dimension 0 does not match the dimension of the index 3 (record "r7")`},
		{up, rec(`"id":"r7","values":null`), 400, `Vector dimension 0 does not match`},
		{up, rec(`"id":"r7","values":[1,2]`), 400, `vectors[1].values: Vector dimension 2 does not match the dimension of the index 3 (record "r7")`},
		{up, rec(`"id":"r7","values":[` + nines + `]`), 400, `Vector dimension 20001 does not match`},
		{up, rec(`"id":"r7","values":[1,null,3]`), 400, `vectors[1].values[1]: null is not a number (record "r7")`},
		{up, rec(`"id":"r7","values":[1,"NaN",3]`), 400, `vectors[1].values[1]: "NaN" is not a number (record "r7")`},
		{up, rec(`"id":"r7","values":[1,NaN,3]`), 400, `not valid JSON`},
		{up, rec(`"id":"r7","values":[1,01,3]`), 400, `not valid JSON`},
		{up, rec(`"id":"r7","values":[1,[2],3]`), 400, `vectors[1].values[1]|is not a number`},
		{up, rec(`"id":"r7","values":[1,2,1e39]`), 400, `vectors[1].values[2]: 1e39 is beyond the range of a 32-bit float|3.4e38|(record "r7")`},
		{up, rec(`"id":"r7","values":[1,2,-1e400]`), 400, `vectors[1].values[2]: -1e400 is beyond the range`},
		{up, rec(`"id":"r7","values":[1,2,3e38]`), 400, `vectors[1].values: the squared length 9e+76|(record "r7")`},
		{up, rec(`"id":"r7","values":[0,0,-0.0]`), 400, `vectors[1].values: Dense vectors must contain at least one non-zero value|(record "r7")`},
		{up, rec(`"id":"r7","values":[1e-9,0,-9e-9]`), 400, `at least one non-zero value`},
		{up, rec(`"id":"r7","values":"[1,2,3]"`), 400, `vectors[1].values: want an array of numbers`},
		{up, rec(`"id":"r7","vals":[1,2,3]`), 400, `vectors[1]: unknown field "vals"; did you mean "values"? (record "r7")`},
		{up, rec(`"id":"r7","values":[1,2,3],"sparse_values":{}`), 400, `unknown field "sparse_values"; did you mean "sparseValues"?`},
		{up, rec(`"id":"r7","values":[1,2,3],"metadata":7`), 400, `vectors[1].metadata: metadata must be an object|(record "r7")`},
		{up, rec(`"id":"r7","values":[1,2,3],"metadata":{"a":null}`), 400, `vectors[1].metadata|string, number, boolean or list of strings|(record "r7")`},
		{up, rec(`"id":"r7","values":[1,2,3],"metadata":{"a":{"b":1}}`), 400, `string, number, boolean or list of strings`},
		{up, rec(`"id":"r7","values":[1,2,3],"metadata":{"a":[1]}`), 400, `string, number, boolean or list of strings`},
		{up, rec(`"id":"r7","values":[1,2,3],"metadata":{"a":1,"a":2}`), 400, `duplicate`},
		{up, rec(`"id":"r7","values":[1,2,3],"metadata":{"$a":1}`), 400, `vectors[1].metadata|$a`},
		{up, rec(`"id":"r7","values":[1,2,3],"metadata":{"a":"` + strings.Repeat("x", 41<<10) + `"}`), 400, `vectors[1].metadata|40960`},
		{up, rec(`"id":"r7","values":[1,2,3],"sparseValues":{"indices":[1,2],"values":[1]}`), 400, `vectors[1].sparseValues: 2 indices, but 1 values (record "r7")`},
		{up, rec(`"id":"r7","values":[1,2,3],"sparseValues":{"indices":[2,1,2],"values":[1,1,1]}`), 400, `vectors[1].sparseValues.indices: 2 stands twice`},
		{up, rec(`"id":"r7","values":[1,2,3],"sparseValues":{"indices":[-1],"values":[1]}`), 400, `vectors[1].sparseValues.indices[0]: -1 is not between 0 and 4294967295`},
		{up, rec(`"id":"r7","values":[1,2,3],"sparseValues":{"indices":[4294967296],"values":[1]}`), 400, `4294967296 is not between`},
		{up, rec(`"id":"r7","values":[1,2,3],"sparseValues":{"indices":[1.5],"values":[1]}`), 400, `want a whole number, got 1.5`},
		{up, rec(`"id":"r7","values":[1,2,3],"sparseValues":{"indices":[1],"values":[null]}`), 400, `vectors[1].sparseValues.values[0]: null is not a number`},
		{up, rec(`"id":"r7","values":[1,2,3],"sparseValues":{"indices":[1],"values":[3e38]}`), 400, `vectors[1].sparseValues.values: the squared length`},
		{up, rec(`"id":"r7","values":[1,2,3],"sparseValues":{"indices":[` + many(2049) + `],"values":[1]}`), 400, `vectors[1].sparseValues.indices[2048]: more than 2048`},
		{up, `{"vectors":[{"id":"a","values":[1,2,3]}],"namespace":"` + strings.Repeat("x", 513) + `"}`, 400, "namespace: has 513 bytes"},
		{up, `{"vectors":[{"id":"a","values":[1,2,3]}],"namespace":"a\u0000b"}`, 400, "namespace|NUL"},
		{"POST /i/sp/vectors/upsert", `{"vectors":[{"id":"a","values":[1]}]}`, 400, "vectors[0].values: a sparse index takes no dense values"},
		{"POST /i/sp/vectors/upsert", `{"vectors":[{"id":"a"}]}`, 400, "vectors[0].sparseValues: a sparse index needs"},
		{"POST /i/sp/vectors/upsert", `{"vectors":[{"id":"a","sparseValues":{"indices":[],"values":[]}}]}`, 400, "vectors[0].sparseValues: a sparse index needs"},
		{up, `{"vectors":[{"id":"a","values":[1,2,3` + strings.Repeat(" ", 2<<20+64<<10) + `]}]}`, 413, "longer than 2162688 bytes"},

		// Queries.
		{q, `{"vector":[1,2,3]}`, 400, "topK: is missing"},
		{q, `{"vector":[1,2,3],"topK":0}`, 400, "topK: 0 is not between 1 and 10000"},
		{q, `{"vector":[1,2,3],"topK":10001}`, 400, "topK: 10001 is not between 1 and 10000"},
		{q, `{"vector":[1,2,3],"topK":-1}`, 400, "topK: -1 is not between"},
		{q, `{"vector":[1,2,3],"topK":1.5}`, 400, "topK: want a whole number, got 1.5"},
		{q, `{"vector":[1,2,3],"topK":"10"}`, 400, `topK: want a whole number, got "10"`},
		{q, `{"vector":[1,2,3],"topK":1e30}`, 400, `topK`},
		{q, `{"topK":1}`, 400, "one of vector, sparseVector and id is needed"},
		{q, `{"topK":1,"vector":[]}`, 400, "one of vector, sparseVector and id is needed"},
		{q, `{"topK":1,"vector":[1,2]}`, 400, "vector: Vector dimension 2 does not match the dimension of the index 3"},
		{q, `{"topK":1,"vector":[1,null,2]}`, 400, "vector[1]: null is not a number"},
		{q, `{"topK":1,"vector":[0,0,0]}`, 400, "vector: a vector of length zero has no direction"},
		{q, `{"topK":1,"vector":[1e-40,0,0]}`, 400, "vector: a vector of length zero has no direction"},
		{q, `{"topK":1,"vector":[3e38,0,0]}`, 400, "vector: the squared length"},
		{q, `{"topK":1,"vector":[1,2,3],"id":"a"}`, 400, "id is given together with vector"},
		{q, `{"topK":1,"id":"é"}`, 400, "id|0xc3"},
		{q, `{"topK":1,"vector":[1,2,3],"sparseVector":{"indices":[1],"values":[1]}}`, 400, "sparseVector: an index with metric cosine cannot"},
		{q, `{"topK":1,"queries":[{"values":[1,2,3]}]}`, 400, "queries: the deprecated list of queries is not served"},
		{q, `{"topK":1,"vector":[1,2,3],"top_k":2}`, 400, `unknown field "top_k"; did you mean "topK"?`},
		{q, `{"topK":1,"vector":[1,2,3],"includeValues":1}`, 400, "includeValues: want true or false, got 1"},
		{q, `{"topK":1,"vector":[1,2,3],"scanFactor":5}`, 400, "scanFactor: 5 is not between 0.5 and 4"},
		{q, `{"topK":1,"vector":[1,2,3],"maxCandidates":0}`, 400, "maxCandidates: 0 is not between 1 and 100000"},
		{q, `{"topK":1,"vector":[1,2,3],"recall":1}`, 400, "recall: 1 is not between 0.5 and 0.999"},
		{q, `{"topK":1,"vector":[1,2,3],"recall":"high"}`, 400, `recall: want a number, got "high"`},
		{q, `{"topK":1,"vector":[1,2,3],"recall":0.9,"maxCandidates":10}`, 400, "maxCandidates and recall are both given"},
		{q, `{"topK":1,"vector":[1,2,3],"filter":{"a":[1]}}`, 400, "filter"},
		{q, `{"topK":1,"vector":[1,2,3],"filter":{"a":{"$near":1}}}`, 400, "filter|$near"},
		{q, `{"topK":1,"vector":[1,2,3],"filter":[]}`, 400, "filter: want an object, got []"},
		{q, `{"topK":1,"vector":[1,2,3],"filter":` + strings.Repeat(`{"$and":[`, 40) + `{"a":1}` + strings.Repeat(`]}`, 40) + `}`, 400, "filter: $and and $or are nested more than 16 deep"},
		{q, `{"topK":1,"vector":[1,2,3],"filter":` + strings.Repeat(`{"$and":[`, 17) + `{"a":1}` + strings.Repeat(`]}`, 17) + `}`, 400, "filter: $and and $or are nested more than 16 deep"},
		{q, `{"topK":1,"vector":[1,2,3],"filter":` + strings.Repeat(`{"$and":[`, 6000) + `{"a":1}` + strings.Repeat(`]}`, 6000) + `}`, 400, "not valid JSON"},
		{"POST /i/sp/query", `{"topK":1,"vector":[1]}`, 400, "vector: a sparse index is searched by sparseVector"},

		// Updates.
		{"POST /i/cos/vectors/update", `{}`, 400, "id: is missing"},
		{"POST /i/cos/vectors/update", `{"id":"a"}`, 400, "nothing to change"},
		{"POST /i/cos/vectors/update", `{"id":"a","values":[1]}`, 400, `values: Vector dimension 1 does not match the dimension of the index 3 (record "a")`},
		{"POST /i/cos/vectors/update", `{"id":"a","values":[0,0,0]}`, 400, "values: Dense vectors must contain"},
		{"POST /i/cos/vectors/update", `{"id":"a","filter":{"a":1},"setMetadata":{}}`, 400, "id and filter are both given"},
		{"POST /i/cos/vectors/update", `{"filter":{},"setMetadata":{"a":1}}`, 400, "filter: an empty filter would change every record"},
		{"POST /i/cos/vectors/update", `{"filter":{"a":1}}`, 400, "setMetadata: is needed"},
		{"POST /i/cos/vectors/update", `{"filter":{"a":1},"values":[1,2,3],"setMetadata":{"a":1}}`, 400, "changes metadata alone"},
		{"POST /i/cos/vectors/update", `{"id":"a","setMetadata":{"a":1},"dryRun":true}`, 400, "dryRun: only an update by filter"},
		{"POST /i/cos/vectors/update", `{"id":"a","setMetadata":{"a":{}}}`, 400, "setMetadata|string, number, boolean"},
		{"POST /i/sp/vectors/update", `{"id":"a","values":[1]}`, 400, "values: a sparse index takes no dense values"},

		// Deletes.
		{"POST /i/cos/vectors/delete", `{}`, 400, "exactly one of ids, filter and deleteAll: true must be given, 0 are"},
		{"POST /i/cos/vectors/delete", `{"deleteAll":false}`, 400, "exactly one of"},
		{"POST /i/cos/vectors/delete", `{"deleteAll":true,"ids":["a"]}`, 400, "exactly one of|2 are"},
		{"POST /i/cos/vectors/delete", `{"ids":[]}`, 400, "ids: is empty"},
		{"POST /i/cos/vectors/delete", `{"ids":[` + ids(1001) + `]}`, 400, "ids[1000]: more than 1000 elements"},
		{"POST /i/cos/vectors/delete", `{"ids":["a",""]}`, 400, "ids[1]: is missing or empty"},
		{"POST /i/cos/vectors/delete", `{"ids":"a"}`, 400, "ids: want an array"},
		{"POST /i/cos/vectors/delete", `{"filter":{}}`, 400, "filter: an empty filter would delete every record"},

		// Reads with parameters.
		{"GET /i/cos/vectors/fetch", ``, 400, "ids: 0 are given"},
		{"GET /i/cos/vectors/fetch?ids=", ``, 400, "ids[0]: is missing or empty"},
		{"GET /i/cos/vectors/fetch?ids=%C3%A9", ``, 400, "ids[0]|0xc3"},
		{"GET /i/cos/vectors/fetch?" + strings.Repeat("ids=a&", 1001), ``, 400, "ids: 1001 are given, 1 to 1000"},
		{"GET /i/cos/vectors/fetch?ids=a&nameSpace=x", ``, 400, `unknown query parameter "nameSpace"; did you mean "namespace"?`},
		{"GET /i/cos/vectors/fetch?ids=a&namespace=x&namespace=y", ``, 400, "namespace is given 2 times"},
		{"GET /i/cos/vectors/list?limit=101", ``, 400, "limit: 101 is not between 1 and 100"},
		{"GET /i/cos/vectors/list?limit=0", ``, 400, "limit: 0 is not between"},
		{"GET /i/cos/vectors/list?limit=ten", ``, 400, `limit: want a whole number, got "ten"`},
		{"GET /i/cos/vectors/list?prefix=%00", ``, 400, "prefix|0x00"},
		{"GET /i/cos/vectors/list?prefix=%zz", ``, 400, "query string is not valid"},
		{"GET /i/cos/namespaces?limit=1000", ``, 400, "limit: 1000 is not between 1 and 100"},
		{"POST /i/cos/vectors/fetch_by_metadata", `{}`, 400, "filter: is missing or empty"},
		{"POST /i/cos/vectors/fetch_by_metadata", `{"filter":{"a":1},"limit":10001}`, 400, "limit: 10001 is not between 1 and 10000"},
		{"POST /i/cos/describe_index_stats", `{"filter":{"a":1}}`, 400, "filter: stats count whole namespaces"},
		{"POST /i/cos/describe_index_stats", `{"filters":{}}`, 400, `did you mean "filter"?`},

		// Namespaces.
		{"POST /i/cos/namespaces", `{}`, 400, "name: is missing"},
		{"POST /i/cos/namespaces", `{"name":""}`, 400, "name: is missing"},
		{"POST /i/cos/namespaces", `{"name":"x\u0000"}`, 400, "name|NUL"},
		{"POST /i/cos/namespaces", `{"name":"x","schema":{"fields":{"$a":{"filterable":true}}}}`, 400, "schema.fields|begins with $"},
		{"POST /i/cos/namespaces", `{"name":"x","schema":{"fields":{"a":{"filterable":false}}}}`, 400, "filterable must be true"},
		{"GET /i/cos/namespaces/gone", ``, 404, `namespace "gone"`},
		{"DELETE /i/cos/namespaces/gone", ``, 404, `namespace "gone"`},
		{"GET /i/cos/namespaces/%00", ``, 400, "namespace|NUL"},

		// Indexes.
		{"POST /indexes", `{"name":"a"}`, 400, "dimension: is missing"},
		{"POST /indexes", `{"name":"Bad_Name","dimension":1,"spec":{}}`, 400, "alphanumeric character"},
		{"POST /indexes", `{"name":"-a","dimension":1,"spec":{}}`, 400, "alphanumeric character"},
		{"POST /indexes", `{"name":"","dimension":1,"spec":{}}`, 400, "name: has 0 characters"},
		{"POST /indexes", `{"name":"` + strings.Repeat("a", 46) + `","dimension":1,"spec":{}}`, 400, "name: has 46 characters, 1 to 45"},
		{"POST /indexes", `{"name":"a","dimension":0}`, 400, "dimension: 0 is not between 1 and 20000"},
		{"POST /indexes", `{"name":"a","dimension":20001}`, 400, "dimension: 20001 is not between 1 and 20000"},
		{"POST /indexes", `{"name":"a","dimension":1,"metric":"manhattan"}`, 400, `metric: "manhattan" is not cosine, dotproduct or euclidean`},
		{"POST /indexes", `{"name":"a","vector_type":"multi"}`, 400, `vector_type: "multi" is not dense or sparse`},
		{"POST /indexes", `{"name":"a","vector_type":"sparse","dimension":3}`, 400, "dimension: is given, but a sparse index has none"},
		{"POST /indexes", `{"name":"a","vector_type":"sparse","metric":"cosine"}`, 400, "metric|sparse index is compared by dotproduct"},
		{"POST /indexes", `{"name":"a","dimension":1,"deletion_protection":"yes"}`, 400, `deletion_protection: "yes" is not enabled or disabled`},
		{"POST /indexes", `{"name":"a","dimension":1}`, 400, "spec: is missing"},
		{"POST /indexes", `{"name":"a","dimension":1,"spec":null}`, 400, "spec: is missing"},
		{"POST /indexes", `{"name":"a","dimension":1,"spec":{}}`, 400, "spec: exactly one of serverless, pod and byoc must be given, 0 are"},
		{"POST /indexes", `{"name":"a","dimension":1,"spec":{"serverless":{"cloud":"aws"}}}`, 400, "spec.serverless.region: is missing"},
		{"POST /indexes", `{"name":"a","dimension":1,"spec":{"serverless":{"cloud":"aws","region":"x","zone":1}}}`, 400, `spec.serverless: unknown field "zone"`},
		{"POST /indexes", `{"name":"a","dimension":1,"spec":{"serverless":{"cloud":"aws","region":"x","read_capacity":{"mode":"Sometimes"}}}}`, 400, `spec.serverless.read_capacity.mode: "Sometimes"`},
		{"POST /indexes", `{"name":"a","dimension":1,"spec":{"serverless":{"cloud":"aws","region":"x","read_capacity":{"mode":"Dedicated"}}}}`, 400, `read_capacity.dedicated: is missing`},
		{"POST /indexes", `{"name":"a","dimension":1,"spec":{"serverless":{"cloud":"aws","region":"x","source_collection":"non-existent-collection"}}}`, 404, `Resource non-existent-collection not found`},
		{"POST /indexes", `{"name":"a","dimension":1,"spec":{"pod":{"environment":"x","pod_type":"q9"}}}`, 400, `spec.pod.pod_type: "q9"`},
		{"POST /indexes", `{"name":"a","dimension":1,"spec":{"pod":{"environment":"x","replicas":2,"pods":3}}}`, 400, `spec.pod.pods: 3 is not replicas times shards, 2`},
		{"POST /indexes", `{"name":"a","dimension":1,"spec":{"byoc":{}}}`, 400, `spec.byoc.environment: is missing`},
		{"POST /indexes", `{"name":"a","dimension":1,"tags":{"a b":"c"}}`, 400, `tags: the key "a b"`},
		{"POST /indexes", `{"name":"a","dimension":1,"tags":{"a":"<"}}`, 400, `tags.a: the value "<"`},
		{"POST /indexes", `{"name":"a","dimension":1,"tags":{"a":7}}`, 400, `tags.a: want a string, got 7`},
		{"POST /indexes", `{"name":"a","dimension":1,"Metric":"cosine"}`, 400, `did you mean "metric"?`},
		{"POST /indexes", `{"name":"a","schema":{"fields":{}}}`, 400, `schema: belongs to API version 2026-07`},
		{"POST /indexes", `{"name":"cos","dimension":1,"spec":{"serverless":{"cloud":"aws","region":"x"}}}`, 409, `cos`},
		{"GET /indexes/gone", ``, 404, "Resource gone not found"},
		{"PATCH /indexes/gone", `{}`, 404, "Resource gone not found"},
		{"DELETE /indexes/gone", ``, 404, "Resource gone not found"},
		{"DELETE /indexes/locked", ``, 403, "Deletion protection is enabled for this index"},
		{"PATCH /indexes/cos", `{"spec":{"pod":{"replicas":2}}}`, 400, "spec: the index is serverless, which cannot be changed"},
		{"PATCH /indexes/cos", `{"deletion_protection":"maybe"}`, 400, "deletion_protection"},
		{"PATCH /indexes/cos", `{"croft":{"m":32}}`, 400, "croft.m: is 16 and cannot be changed: every graph would have to be built anew"},
		{"PATCH /indexes/cos", `{"croft":{"ef_construction":100}}`, 400, "croft.ef_construction: is 200 and cannot be changed"},
		{"PATCH /indexes/cos", `{"croft":{"quantization":4}}`, 400, "croft.quantization: is auto and cannot be changed"},
		{"PATCH /indexes/cos", `{"croft":{"target_recall":0.4999}}`, 400, "croft.target_recall: 0.4999 is not between 0.5 and 0.999"},
		{"PATCH /indexes/sp", `{"croft":{"target_recall":0.9}}`, 400, "croft: a sparse index is searched exactly"},
		{"POST /indexes", `{"name":"x","dimension":1,"spec":{"serverless":{"cloud":"a","region":"r"}},"croft":{"quantization":3}}`, 400,
			"croft.quantization: 3 is none of auto, none, 1, 2, 4, 8"},
		{"POST /indexes", `{"name":"x","dimension":1,"croft":{"quantization":["auto"]}}`, 400, `croft.quantization: ["auto"] is none of`},
		{"POST /indexes", `{"name":"x","dimension":1,"croft":{"M":16}}`, 400, `croft: unknown field "M"; did you mean "m"?`},
		{"POST /indexes", `{"name":"x","dimension":1,"croft":{"m":1}}`, 400, "croft.m: 1 is not between 2 and 256"},
		{"POST /indexes", `{"name":"x","dimension":1,"croft":{"ef_construction":10001}}`, 400, "croft.ef_construction: 10001 is not between 1 and 10000"},
		{"POST /indexes", `{"name":"x","vector_type":"sparse","spec":{"serverless":{"cloud":"a","region":"r"}},"croft":{}}`, 400,
			"croft: a sparse index is searched exactly"},
		{"PATCH /indexes/cos", `{"embed":{}}`, 400, "embed: this index has no embedding model"},
		{"PATCH /indexes/pods", `{"spec":{"pod":{"pod_type":"p1.x1"}}}`, 400, "Cannot scale down"},
		{"PATCH /indexes/pods", `{"spec":{"pod":{"pod_type":"s1.x4"}}}`, 400, "pods of type p1 cannot become s1"},
		{"PATCH /indexes/pods", `{"spec":{"pod":{"replicas":30000}}}`, 403, "You've reached the max pods allowed"},

		// Shards, placement and tenants.
		{"POST /v1/shards", `{}`, 400, "kind: is missing"},
		{"POST /v1/shards", `{"kind":"big"}`, 400, `kind: "big" is neither shared nor dedicated`},
		{"POST /v1/shards", `{"kind":"shared","name":"x"}`, 400, "for dedicated shards"},
		{"POST /v1/shards/99/drain", ``, 404, "no shard 99"},
		{"POST /v1/shards/x/drain", ``, 404, "no shard x"},
		{"DELETE /v1/shards/0/drain", ``, 412, "shard 0 is not being drained"},
		{"POST /v1/rebalance", `{"in_window":1}`, 400, "in_window: want true or false"},
		{"POST /v1/rebalance", `{}`, 412, "there is nothing to move"},
		{"DELETE /v1/rebalance", ``, 404, "no run is under way"},
		{"PUT /v1/rebalance/rules", `{"parallel":0}`, 400, "parallel: 0 is not between 1 and 64"},
		{"PUT /v1/rebalance/rules", `{"cooldown":"soon"}`, 400, "cooldown: want a duration"},
		{"PUT /v1/rebalance/rules", `{"windows":[{"from":"25:00","to":"06:00"}]}`, 400, "windows[0].from: "},
		{"PUT /v1/rebalance/rules", `{"windows":[{"from":"06:00","to":"06:00"}]}`, 400, "a window from minute 360 to 360"},
		{"PUT /v1/rebalance/rules", `{"windows":[{"days":["Mo"],"from":"06:00","to":"07:00"}]}`, 400, "windows[0].days: "},
		{"GET /v1/capacity?tenants=-1", ``, 400, "tenants: "},
		{"POST /v1/shards", `{"kind":"dedicated","name":"` + strings.Repeat("x", 64) + `"}`, 400, "name of a shard has 64 bytes"},
		{"POST /v1/shards", `[]`, 400, "want an object"},
		{"DELETE /v1/shards/0", ``, 412, "shard 0 is shared"},
		{"DELETE /v1/shards/9", ``, 404, "no shard 9"},
		{"DELETE /v1/shards/00", ``, 404, "no shard 00"},
		{"PATCH /v1/shards", ``, 405, "it has GET, POST"},
		{"PUT /v1/placement", ``, 400, "the body is empty"},
		{"PUT /v1/placement", `{"policy":"random"}`, 400, "policy: placement policy \"random\" is none of ring, least-loaded"},
		{"PUT /v1/placement", `{"shard_tenants":0}`, 400, "shard_tenants: 0 is not between 1 and"},
		{"PUT /v1/placement", `{"tenant_growth":"much"}`, 400, "tenant_growth: want a whole number"},
		{"PUT /v1/placement", `{"Policy":"ring"}`, 400, `did you mean "policy"?`},
		{"POST /v1/placement", ``, 405, "it has GET, PUT"},
		{"POST /v1/tenants", `{}`, 400, "tenant: is missing"},
		{"POST /v1/tenants", `{"tenant":"x","shard":99}`, 404, "no shard 99"},
		{"POST /v1/tenants", `{"tenant":"x","shard":-1}`, 400, "shard: -1 is not between 0"},
		{"POST /v1/tenants", `{"tenant":"x\u0000"}`, 400, "NUL"},
		{"POST /v1/tenants", `{"tenant":"` + strings.Repeat("x", 513) + `"}`, 400, "at most 512"},
		{"GET /v1/tenants?limit=0", ``, 400, "limit: 0 is not between"},
		{"GET /v1/tenants?paginationToken=x", ``, 400, "paginationToken"},
		{"GET /v1/tenants/nobody", ``, 404, `no tenant "nobody"`},
		{"PUT /v1/tenants/nobody", ``, 405, "it has DELETE, GET, PATCH, POST"},

		// Which index, and which path.
		{"POST /query", `{"vector":[1,2,3],"topK":1}`, 400, "does not tell which of 5 indexes"},
		{"POST /i/gone/query", `{"vector":[1,2,3],"topK":1}`, 404, "Resource gone not found"},
		{"POST /i/cos/query/", `{}`, 404, "no such path"},
		{"GET /", ``, 404, "no such path"},
		{"GET /i/cos", ``, 404, "no such path"},
		{"GET //indexes", ``, 404, "no such path"},
		{"GET /i/cos/indexes", ``, 404, "no such path"},
		{"DELETE /i/dot/indexes/cos", ``, 404, "no such path"},
		{"GET /i/../indexes", ``, 404, "no such path"},
		{"GET /indexes/cos/backups", ``, 404, "no such path"},
		{"GET /query", ``, 405, "/query has no method GET, it has POST"},
		{"PUT /indexes/cos", ``, 405, "it has DELETE, GET, PATCH"},
		{"BREW /indexes", ``, 405, "has no method BREW"},
	} {
		name := w.route + " " + w.body
		t.Run(clip(strings.ReplaceAll(name, "/", "|")), func(t *testing.T) {
			method, path, _ := strings.Cut(w.route, " ")
			a := c.do(method, path, w.body)
			requireError(t, a, w.status, strings.Split(w.parts, "|")...)
			if w.status == http.StatusMethodNotAllowed {
				if a.header.Get("Allow") == "" {
					t.Fatal("405 without Allow")
				}
			}
		})
	}
	for _, ix := range []string{"cos", "dot", "sp"} {
		a := c.ok("POST", "/i/"+ix+"/describe_index_stats", `{}`)
		if got := a.get(t, "totalVectorCount"); got != 0.0 {
			t.Fatalf("index %s: refused requests have stored %v records", ix, got)
		}
	}
}
