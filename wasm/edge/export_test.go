package edge

import "context"

// Adapter is what a run does with its recipe's lora.path.
func (s *Server) Adapter(ctx context.Context, path string) (data []byte, sum string, err error) {
	return s.adapter(ctx, path)
}
