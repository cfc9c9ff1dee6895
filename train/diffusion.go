package train

import (
	"math"
	"math/rand/v2"

	"github.com/sdo-go/sdo/graph"
	"github.com/sdo-go/sdo/model"
)

// Diffusion trains a conditional UNet2DModel by v-prediction (Salimans and Ho,
// "Progressive distillation for fast sampling of diffusion models",
// arXiv 2202.00512): x_t = a*x0 + s*noise, target a*noise - s*x0, with
// a = sqrt(alphaBar_t) and s = sqrt(1 - alphaBar_t).
//
// Each attribute is hidden from the network independently with probability
// DropEach, and all of them together with probability DropAll, so that one
// network serves full, partial and empty descriptions and classifier-free
// guidance (Ho and Salimans, arXiv 2207.12598).
type Diffusion struct {
	UNet     model.UNet2DConfig
	Data     Dataset
	AlphaBar []float64 // the noise schedule, by training timestep
	DropEach float64
	DropAll  float64
}

func (d Diffusion) embedder() model.AttributeEmbedder {
	return model.AttributeEmbedder{Attributes: d.Data.Attributes(), Dim: d.UNet.TimeEmbedDim()}
}

// Params are the UNet's, then the attribute tables.
func (d Diffusion) Params() ([]model.Param, error) {
	params, err := d.UNet.Params()
	if err != nil {
		return nil, err
	}
	return append(params, d.embedder().Params()...), nil
}

// Loss is the mean squared error of the predicted velocity, per image.
func (d Diffusion) Loss(g *graph.Graph, batch int) *graph.Node {
	shape := append(graph.Shape{batch}, d.Data.Shape()...)
	noisy, target := g.Input("noisy", shape...), g.Input("target", shape...)
	labels := g.Input("labels", len(d.Data.Attributes()), batch)
	class := d.embedder().Build(g, labels)
	predicted := d.UNet.Build(g, noisy, g.Input("timestep", batch), class, graph.F32)
	return g.MeanSquaredError(predicted, target)
}

// Fill draws images, timesteps, noise and which attributes to hide. Timesteps
// are stratified over the batch: one in each of its equal parts of the
// schedule, which lowers the variance of the loss.
func (d Diffusion) Fill(seed uint64, step, batch int, inputs map[string][]float64) {
	attributes := d.Data.Attributes()
	size := d.Data.Shape().Size()
	image := make([]float32, size)
	drops := rand.New(rand.NewPCG(seed, uint64(streamDrop)<<56|uint64(step)))
	times := rand.New(rand.NewPCG(seed, uint64(streamTime)<<56|uint64(step)))
	for b := range batch {
		index := uint64(step)*uint64(batch) + uint64(b)
		labels := d.Data.Example(seed, index, image)
		dropAll := drops.Float64() < d.DropAll
		for a := range attributes {
			label := labels[a]
			if hidden := drops.Float64() < d.DropEach; hidden || dropAll {
				label = attributes[a].Null()
			}
			inputs["labels"][a*batch+b] = float64(label)
		}

		t := int((float64(b) + times.Float64()) / float64(batch) * float64(len(d.AlphaBar)))
		t = min(t, len(d.AlphaBar)-1) // the sum may round up to the end
		inputs["timestep"][b] = float64(t)
		signal, sigma := math.Sqrt(d.AlphaBar[t]), math.Sqrt(1-d.AlphaBar[t])
		for i, x := range image {
			noise := graph.Normal(seed^index*0x9E3779B97F4A7C15, streamNoise, uint32(i))
			inputs["noisy"][b*size+i] = signal*float64(x) + sigma*noise
			inputs["target"][b*size+i] = signal*noise - sigma*float64(x)
		}
	}
}
