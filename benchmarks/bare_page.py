"""What the app is compared with: the same canvas, how much ink is on it, and eleven buttons. Streamlit runs it."""

import streamlit as st
from streamlit_drawable_canvas import st_canvas

with st.container(key="canvas"):
    canvas = st_canvas(
        stroke_width=20,
        stroke_color="#ffffff",
        background_color="#000000",
        width=280,
        height=280,
        return_image_data=True,
        key="canvas-bare",
    )
with st.container(key="answer"):
    st.text("" if canvas.image_data is None else f"{canvas.image_data[..., 0].sum()} of ink")
for digit in range(10):
    st.button(str(digit))
st.button("Correct")
