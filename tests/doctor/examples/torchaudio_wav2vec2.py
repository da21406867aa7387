"""torchaudio's wav2vec 2.0 on a padded batch of waveforms."""

import torch
from torchaudio.models import wav2vec2_model

torch.manual_seed(0)
layers = [(32, 10, 5), (32, 3, 2), (32, 3, 2), (32, 3, 2), (32, 3, 2), (32, 2, 2), (32, 2, 2)]
model = wav2vec2_model(
    extractor_mode="layer_norm",
    extractor_conv_layer_config=layers,
    extractor_conv_bias=False,
    encoder_embed_dim=48,
    encoder_projection_dropout=0.1,
    encoder_pos_conv_kernel=16,
    encoder_pos_conv_groups=4,
    encoder_num_layers=3,
    encoder_num_heads=4,
    encoder_attention_dropout=0.1,
    encoder_ff_interm_features=96,
    encoder_ff_interm_dropout=0.1,
    encoder_dropout=0.1,
    encoder_layer_norm_first=False,
    encoder_layer_drop=0.0,
    aux_num_out=None,
)
with torch.no_grad():
    model.eval()(torch.randn(2, 8000), torch.tensor([8000, 5000]))
