"""The process: Streamlit's page and the routes beside it.

    streamlit run serve.py
"""

import streamlit as st

app = st.App("app.py")
