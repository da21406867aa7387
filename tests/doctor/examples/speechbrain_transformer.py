"""SpeechBrain's Transformer for speech recognition, on padded speech and text."""

import torch
from speechbrain.lobes.models.transformer.TransformerASR import TransformerASR

torch.manual_seed(0)
model = TransformerASR(
    tgt_vocab=30, input_size=20, d_model=32, nhead=4, num_encoder_layers=2, num_decoder_layers=2, d_ffn=64,
    attention_type="regularMHA", normalize_before=True,
)  # fmt: skip
speech, text = torch.randn(3, 25, 20), torch.randint(1, 30, (3, 8))
text[2, 5:] = 0
with torch.no_grad():
    model.eval()(speech, text, wav_len=torch.tensor([1.0, 0.8, 0.4]), pad_idx=0)
