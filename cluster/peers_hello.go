package cluster

import (
	"encoding/binary"
	"io"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// A connection between nodes begins with a hello of who dialled, and the welcome of who was dialled. All numbers are
// little-endian.
//
//	hello:   magic "crft" | version u8 | kind u8 | size u16 | CRC32C u32 of what is before it and of the body | body
//	body:    cluster | from | to | group, each a varint length and the bytes
//	welcome: size u16 | CRC32C u32 of size and body | body: empty, or the refusal as appendError writes it
//
// What follows is raft's own protocol, or the frames of peers_frame.go.
const (
	helloMagic    = 0x74667263 // "crft"
	helloVersion  = 1
	helloHeader   = 12
	welcomeHeader = 6
	maxHelloBody  = 1 << 10 // bytes
	maxRefusal    = 4 << 10 // bytes
)

type helloKind uint8

const (
	helloRaft helloKind = iota + 1
	helloCall
)

// hello says what a connection is for.
type hello struct {
	kind    helloKind
	cluster string // id; empty while who dials has not joined
	from    string // node id
	to      string // node id; empty when who dials knows an address only
	group   string // of raft
}

func appendHello(b []byte, h *hello) []byte {
	start := len(b)
	b = codec.AppendUint32(b, helloMagic)
	b = append(b, helloVersion, byte(h.kind), 0, 0, 0, 0, 0, 0)
	for _, s := range []string{h.cluster, h.from, h.to, h.group} {
		b = codec.AppendString(b, s)
	}
	head, body := b[start:start+helloHeader], b[start+helloHeader:]
	binary.LittleEndian.PutUint16(head[6:], uint16(min(len(body), maxHelloBody+1))) // too long is for the other side to refuse
	binary.LittleEndian.PutUint32(head[8:], codec.UpdateCRC(codec.CRC(head[:8]), body))
	return b
}

// readHello reads a hello and not a byte more.
func readHello(r io.Reader) (h hello, err error) {
	var head [helloHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return h, err
	}
	if binary.LittleEndian.Uint32(head[:]) != helloMagic {
		return h, errs.New(errs.Invalid, "this is no hello of a croft node")
	}
	if head[4] != helloVersion {
		return h, errs.New(errs.FailedPrecondition, "the hello has version %d, this node speaks %d", head[4], helloVersion).
			WithHint("let all nodes run the same version of croft")
	}
	size := binary.LittleEndian.Uint16(head[6:])
	if size > maxHelloBody {
		return h, errs.New(errs.TooLarge, "a hello of %d bytes, the limit is %d", size, maxHelloBody)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return h, err
	}
	if codec.UpdateCRC(codec.CRC(head[:8]), body) != binary.LittleEndian.Uint32(head[8:]) {
		return h, errs.New(errs.Corrupt, "the hello's checksum is wrong")
	}
	b := codec.NewReader(body)
	h = hello{kind: helloKind(head[5]), cluster: b.String(), from: b.String(), to: b.String(), group: b.String()}
	return h, b.Done()
}

// appendWelcome lets a connection in, or tells why not.
func appendWelcome(b []byte, refusal error) []byte {
	var body []byte
	if refusal != nil {
		body = appendError(nil, refusal)
		if len(body) > maxRefusal {
			body = appendError(nil, errs.New(errs.KindOf(refusal), "refused, for a reason too long to tell"))
		}
	}
	start := len(b)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(body)))
	b = codec.AppendUint32(b, codec.UpdateCRC(codec.CRC(b[start:start+2]), body))
	return append(b, body...)
}

// readWelcome returns the refusal that it read, or what was wrong with it.
func readWelcome(r io.Reader) error {
	var head [welcomeHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	size := binary.LittleEndian.Uint16(head[:])
	if size > maxRefusal {
		return errs.New(errs.Corrupt, "a welcome of %d bytes, the limit is %d", size, maxRefusal)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return err
	}
	if codec.UpdateCRC(codec.CRC(head[:2]), body) != binary.LittleEndian.Uint32(head[2:]) {
		return errs.New(errs.Corrupt, "the welcome's checksum is wrong")
	}
	if size == 0 {
		return nil
	}
	refusal, ok := readError(body)
	if !ok {
		return errs.New(errs.Corrupt, "the welcome cannot be read")
	}
	return refusal
}
