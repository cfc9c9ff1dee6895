package engine

import "fmt"

// Unread says, a sentence each, which of a recipe's texts are longer than what
// reads them: a text encoder has room for so many tokens and sees the first.
func (p *Plan) Unread() (sentences []string) {
	add := func(what, text string, tokens func(string) ([]int, error), room int, reader string) {
		ids, err := tokens(text)
		if room -= 2; err == nil && len(ids) > room { // its begin and its end are tokens, too
			sentences = append(sentences, fmt.Sprintf("%s: has %d tokens, of which %s reads the first %d", what, len(ids), reader, room))
		}
	}
	if pipeline := p.Model.Pipeline; pipeline != nil {
		words := pipeline.Tokenizer
		add("prompt", p.Recipe.Prompt, words.Tokens, words.MaxLength(), "the text encoder")
		add("negative_prompt", p.Recipe.NegativePrompt, words.Tokens, words.MaxLength(), "the text encoder")
	}
	if clip := p.Model.CLIP; clip != nil {
		for i, t := range p.Recipe.Objective {
			add(fmt.Sprintf("objective.%d (%s)", i, t.Term), t.Prompt, clip.Tokenizer.Tokens, clip.Tokenizer.MaxLength(), "CLIP")
		}
	}
	return sentences
}
